//! Label names in places that only know the names before UTF-8, as paths of URLs: `my.label` is written `U__my_2e_label`.

use std::fmt::Write as _;

const MARK: &str = "U__";

/// Writes a name with letters, digits, `_` and `:` only. Names that need no escaping stay as they are; others get `U__` before
/// them, `__` for `_` and the code point in hexadecimal between underscores for the rest.
pub fn escape_name(name: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    if name.starts_with(|c: char| plain(c) && !c.is_ascii_digit()) && name.chars().all(plain) {
        return name.to_owned();
    }
    let mut out = MARK.to_owned();
    for (i, c) in name.chars().enumerate() {
        match c {
            '_' => out.push_str("__"),
            c if plain(c) && !(i == 0 && c.is_ascii_digit()) => out.push(c),
            c => {
                let _ = write!(out, "_{:x}_", c as u32);
            }
        }
    }
    out
}

/// Undoes [`escape_name`]. A name that is not escaped, or not rightly, stays as it is.
pub fn unescape_name(name: &str) -> String {
    name.strip_prefix(MARK).and_then(unescape).unwrap_or_else(|| name.to_owned())
}

fn unescape(mut rest: &str) -> Option<String> {
    let mut out = String::with_capacity(rest.len());
    while let Some((plain, escaped)) = rest.split_once('_') {
        out.push_str(plain);
        let (code, tail) = escaped.split_once('_')?;
        out.push(match code {
            "" => '_',
            code if code.len() <= 6 && code.bytes().all(|byte| byte.is_ascii_hexdigit()) => {
                char::from_u32(u32::from_str_radix(code, 16).ok()?)?
            }
            _ => return None,
        });
        rest = tail;
    }
    out.push_str(rest);
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn only_what_needs_it_is_escaped() {
        for (name, escaped) in [
            ("job", "job"),
            ("a_b:c", "a_b:c"),
            ("my.label_x", "U__my_2e_label__x"),
            ("1st", "U___31_st"),
            ("ü", "U___fc_"),
        ] {
            assert_eq!(escape_name(name), escaped);
            assert_eq!(unescape_name(escaped), name);
        }
    }

    #[test]
    fn what_is_not_rightly_escaped_stays() {
        for name in ["U__a_", "U__a_2e", "U___xyz_", "U___d800_", "U___1234567_", "a_2e_b"] {
            assert_eq!(unescape_name(name), name);
        }
    }

    proptest! {
        #[test]
        fn every_name_comes_back(name in "\\PC{1,12}") {
            prop_assume!(!name.starts_with(MARK) || escape_name(&name) != name);
            prop_assert_eq!(unescape_name(&escape_name(&name)), name);
        }
    }
}
