//! PromQL: text to syntax tree to plan to operators over batches of whole series.
