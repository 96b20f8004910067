//! The one place that reads YAML.
//!
//! Behind it stands `serde-saphyr`: no unsafe code, merge keys as in Go, errors with line and column, and a budget of
//! nodes and depth, so that a bomb of aliases is refused. A file with a second document is an error: Thanos ignores what
//! follows the first, and users lose the half of their configuration without a word.
//!
//! Deserialize into typed structs: read without a type, `on` and `off` become booleans.

use std::path::Path;

use serde::de::{DeserializeOwned, DeserializeSeed};

use crate::Error;

/// Reads one document from `text`; `origin` names it in errors.
///
/// Errors have line and column and no excerpt of the text, which may hold secrets.
pub fn from_str<T: DeserializeOwned>(text: &str, origin: &str) -> Result<T, Error> {
    let options = serde_saphyr::options! { with_snippet: false };
    serde_saphyr::from_str_with_options(text, options)
        .map_err(|e| Error::Yaml { origin: origin.to_owned(), message: one_line(&e.to_string()) })
}

/// Reads one document from a file.
pub fn from_file<T: DeserializeOwned>(path: &Path) -> Result<T, Error> {
    let text = std::fs::read_to_string(path).map_err(|source| Error::Read { path: path.to_owned(), source })?;
    from_str(&text, &path.display().to_string())
}

/// Reads one document with a seed, for those whose type is known only at run time.
pub(crate) fn seed<S>(text: &str, origin: &str, seed: S) -> Result<(), Error>
where
    S: for<'de> DeserializeSeed<'de, Value = ()>,
{
    let options = serde_saphyr::options! { with_snippet: false };
    serde_saphyr::with_deserializer_from_str_with_options(text, options, |de| seed.deserialize(de))
        .map_err(|e| Error::Yaml { origin: origin.to_owned(), message: one_line(&e.to_string()) })
}

fn one_line(message: &str) -> String {
    let line = message.split_whitespace().collect::<Vec<_>>().join(" ");
    match hint(&line) {
        Some(nearest) => format!("{line}, did you mean {nearest}?"),
        None => line,
    }
}

/// Returns the key nearest to the unknown one that a message is about.
fn hint(line: &str) -> Option<&str> {
    let (key, rest) = line.split_once("unknown field `")?.1.split_once('`')?;
    let known = rest.strip_prefix(", expected ")?;
    let known = known.split(" at line ").next()?.trim_start_matches("one of ");
    crate::nearest(key, known.split(", ").flat_map(|word| word.split(" or ")).map(|word| word.trim_matches('`')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Doc {
        name: String,
        #[serde(default)]
        on: bool,
    }

    fn message(text: &str) -> String {
        from_str::<Doc>(text, "doc.yaml").map(|d| panic!("{d:?}")).unwrap_err().to_string()
    }

    #[test]
    fn one_document_is_read_and_a_second_is_refused() {
        assert_eq!(from_str::<Doc>("name: a\n\"on\": yes\n", "x").unwrap(), Doc { name: "a".into(), on: true });
        assert_eq!(from_str::<Doc>("---\nname: a\n", "x").unwrap().name, "a");
        assert!(message("name: a\n---\nname: b\n").starts_with("doc.yaml: "));
    }

    #[test]
    fn errors_have_a_place_and_leak_no_values() {
        let text = message("name: a\npassword: hunter2\n");
        assert!(text.contains("password") && text.contains('2') && !text.contains("hunter2"), "{text}");
        let text = message("name: a\nnam: b\n");
        assert!(text.ends_with("did you mean name?"), "{text}");
        let text = message("name: [hunter2\n");
        assert!(!text.contains("hunter2"), "{text}");
    }

    #[test]
    fn a_bomb_of_aliases_is_refused() {
        let mut text = String::from("a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n");
        for i in 1..9 {
            let row = vec![format!("*a{}", i - 1); 10].join(",");
            text.push_str(&format!("a{i}: &a{i} [{row}]\n"));
        }
        assert!(from_str::<serde_json::Value>(&text, "bomb").is_err());
    }
}
