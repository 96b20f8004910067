//! Replacements in Go's syntax: `$name`, `${name}`, `$1`, `$$`. A name is as long as it can be: `$1x` is the group named `1x`.

/// A replacement: texts and groups of the match.
#[derive(Debug, Clone)]
pub struct Template(Vec<Piece>);

#[derive(Debug, Clone)]
enum Piece {
    Text(String),
    Group(usize),
}

impl Template {
    /// Reads a replacement for matches of `regex`. A group that `regex` does not have stands for nothing.
    pub fn parse(text: &str, regex: &regex::Regex) -> Self {
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some(at) = rest.find('$') {
            pieces.push(Piece::Text(rest[..at].to_owned()));
            rest = &rest[at + 1..];
            if let Some(tail) = rest.strip_prefix('$') {
                pieces.push(Piece::Text("$".to_owned()));
                rest = tail;
                continue;
            }
            let (name, tail) = match rest.strip_prefix('{').and_then(|inner| inner.split_once('}')) {
                Some((name, tail)) => (name, tail),
                None => {
                    let end = rest.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(rest.len());
                    rest.split_at(end)
                }
            };
            if name.is_empty() || !name.chars().all(|c| c.is_alphanumeric() || c == '_') {
                pieces.push(Piece::Text("$".to_owned()));
                continue;
            }
            rest = tail;
            let group = match name.parse::<usize>() {
                Ok(number) => Some(number).filter(|number| *number < regex.captures_len()),
                Err(_) => regex.capture_names().position(|group| group == Some(name)),
            };
            pieces.extend(group.map(Piece::Group));
        }
        pieces.push(Piece::Text(rest.to_owned()));
        Self(pieces)
    }

    /// Returns the replacement for a match.
    pub fn expand(&self, found: &regex::Captures<'_>) -> String {
        let mut out = String::new();
        for piece in &self.0 {
            match piece {
                Piece::Text(text) => out.push_str(text),
                Piece::Group(group) => out.push_str(found.get(*group).map_or("", |group| group.as_str())),
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_go_by_the_longest_name() {
        let regex = crate::pattern::compile("(?P<first>a+)(b*)").unwrap();
        let found = regex.captures("aab").unwrap();
        for (template, text) in [
            ("$1-$2", "aa-b"),
            ("${1}x", "aax"),
            ("$1x", ""),
            ("$first.$0", "aa.aab"),
            ("$$1", "$1"),
            ("$9|$none", "|"),
            ("a$", "a$"),
            ("${", "${"),
            ("${a b}", "${a b}"),
        ] {
            assert_eq!(Template::parse(template, &regex).expand(&found), text, "{template}");
        }
    }
}
