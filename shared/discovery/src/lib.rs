//! Names become a changing set of addresses, by DNS and by file.
