//! What a pattern is made of, as far as strings can be tested without an engine.

use regex_syntax::hir::{Class, Hir, HirKind};

/// The most strings that a pattern is spelled out to.
const MAX_SET: usize = 256;

/// What an anchored pattern looks like.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Shape {
    /// `.*`: every string.
    Any,
    /// `.+`: every string but the empty one.
    NotEmpty,
    /// `a|b|c`: these strings, sorted.
    Set(Vec<String>),
    /// Texts with anything between them: `prefix.*part.*suffix`.
    Parts(Parts),
    /// One of several shapes: `a.*|b.*`.
    OneOf(Vec<Shape>),
    /// Something else that begins and ends like this.
    Other {
        /// What every match begins with.
        prefix: String,
        /// What every match ends with.
        suffix: String,
    },
}

/// Texts in order; between them, and only there, may be anything.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Parts {
    prefix: String,
    middle: Vec<String>,
    suffix: String,
    /// For each gap, there are one more than parts in the middle: whether it cannot be empty.
    filled: Vec<bool>,
}

impl Shape {
    pub(super) fn of(hir: &Hir) -> Self {
        if let Some(mut set) = spell_out(hir) {
            set.sort_unstable();
            set.dedup();
            return Self::Set(set);
        }
        match gap(hir) {
            Some(false) => return Self::Any,
            Some(true) => return Self::NotEmpty,
            None => {}
        }
        match bare(hir).kind() {
            HirKind::Concat(parts) => Self::of_concat(parts),
            HirKind::Alternation(branches) => {
                let shapes: Vec<_> = branches.iter().map(Self::of).collect();
                if shapes.iter().all(Self::decides) { Self::OneOf(shapes) } else { Self::other(&[]) }
            }
            _ => Self::other(&[]),
        }
    }

    fn of_concat(hirs: &[Hir]) -> Self {
        let mut texts = vec![String::new()];
        let mut filled = Vec::new();
        for hir in hirs {
            match (gap(hir), text(hir)) {
                (Some(fill), _) => {
                    // Two gaps in a row are one; that both cannot be empty is more than a shape says.
                    let joined = texts.last().is_some_and(String::is_empty) && !filled.is_empty();
                    match filled.last_mut() {
                        Some(true) if joined && fill => return Self::other(hirs),
                        Some(last) if joined => *last |= fill,
                        _ => {
                            filled.push(fill);
                            texts.push(String::new());
                        }
                    }
                }
                (None, Some(more)) => {
                    if let Some(text) = texts.last_mut() {
                        text.push_str(more);
                    }
                }
                (None, None) => return Self::other(hirs),
            }
        }
        let suffix = texts.pop().unwrap_or_default();
        let mut texts = texts.into_iter();
        let prefix = texts.next().unwrap_or_default();
        Self::Parts(Parts { prefix, middle: texts.collect(), suffix, filled })
    }

    fn other(hirs: &[Hir]) -> Self {
        let joined = |hirs: &mut dyn Iterator<Item = &Hir>| hirs.map_while(text).map(str::to_owned).collect::<Vec<_>>();
        let mut suffix = joined(&mut hirs.iter().rev());
        suffix.reverse();
        Self::Other { prefix: joined(&mut hirs.iter()).concat(), suffix: suffix.concat() }
    }

    /// Tells whether [`Shape::may_match`] is the whole test.
    pub(super) fn decides(&self) -> bool {
        !matches!(self, Self::Other { .. })
    }

    /// Tests as much as the shape says.
    #[inline]
    pub(super) fn may_match(&self, value: &str) -> bool {
        match self {
            Self::Any => true,
            Self::NotEmpty => !value.is_empty(),
            Self::Set(set) => match set.as_slice() {
                [one] => one == value,
                few if few.len() <= 8 => few.iter().any(|have| have == value),
                _ => set.binary_search_by(|have| have.as_str().cmp(value)).is_ok(),
            },
            Self::Parts(parts) => parts.is_match(value),
            Self::OneOf(shapes) => shapes.iter().any(|shape| shape.may_match(value)),
            Self::Other { prefix, suffix } => value.starts_with(prefix.as_str()) && value.ends_with(suffix.as_str()),
        }
    }

    /// Returns the strings, sorted, if the pattern matches only these.
    pub(crate) fn set(&self) -> Option<&[String]> {
        match self {
            Self::Set(set) => Some(set),
            _ => None,
        }
    }

    /// Returns what every match begins with; may be empty.
    pub(crate) fn prefix(&self) -> &str {
        match self {
            Self::Any | Self::NotEmpty => "",
            Self::Set(set) => {
                set.split_first().map_or("", |(first, rest)| rest.last().map_or(first, |last| shared(first, last)))
            }
            Self::Parts(parts) => &parts.prefix,
            Self::OneOf(shapes) => {
                let mut prefixes = shapes.iter().map(Self::prefix);
                let first = prefixes.next().unwrap_or("");
                prefixes.fold(first, shared)
            }
            Self::Other { prefix, .. } => prefix,
        }
    }
}

impl Parts {
    fn is_match(&self, value: &str) -> bool {
        let Some(rest) = value.strip_prefix(self.prefix.as_str()) else { return false };
        let Some(mut rest) = rest.strip_suffix(self.suffix.as_str()) else { return false };
        // The leftmost place for each part leaves the most room for the next.
        for (part, fill) in self.middle.iter().zip(&self.filled) {
            let Some(from) = skip(rest, *fill) else { return false };
            match from.find(part.as_str()) {
                Some(at) => rest = &from[at + part.len()..],
                None => return false,
            }
        }
        self.filled.last().is_none_or(|fill| skip(rest, *fill).is_some())
    }
}

/// Leaves out one character if `fill` says that there has to be one.
fn skip(text: &str, fill: bool) -> Option<&str> {
    if !fill {
        return Some(text);
    }
    let first = text.chars().next()?;
    Some(&text[first.len_utf8()..])
}

/// The longest prefix of both.
fn shared<'a>(a: &'a str, b: &str) -> &'a str {
    let len = a.chars().zip(b.chars()).take_while(|(x, y)| x == y).map(|(x, _)| x.len_utf8()).sum();
    &a[..len]
}

/// Looks through groups.
fn bare(hir: &Hir) -> &Hir {
    match hir.kind() {
        HirKind::Capture(capture) => bare(&capture.sub),
        _ => hir,
    }
}

fn text(hir: &Hir) -> Option<&str> {
    match bare(hir).kind() {
        HirKind::Literal(literal) => std::str::from_utf8(&literal.0).ok(),
        _ => None,
    }
}

/// `.*` is `Some(false)`, `.+` is `Some(true)`: it cannot be empty.
fn gap(hir: &Hir) -> Option<bool> {
    let HirKind::Repetition(repetition) = bare(hir).kind() else { return None };
    let HirKind::Class(Class::Unicode(class)) = bare(&repetition.sub).kind() else { return None };
    let all = matches!(class.ranges(), [range] if range.start() == '\0' && range.end() == char::MAX);
    match (repetition.min, repetition.max) {
        (0, None) if all => Some(false),
        (1, None) if all => Some(true),
        _ => None,
    }
}

/// All strings that match, if they are few.
fn spell_out(hir: &Hir) -> Option<Vec<String>> {
    match hir.kind() {
        HirKind::Empty => Some(vec![String::new()]),
        HirKind::Literal(literal) => Some(vec![std::str::from_utf8(&literal.0).ok()?.to_owned()]),
        HirKind::Class(Class::Unicode(class)) => {
            let size: usize = class.ranges().iter().map(|range| range.len()).sum();
            (size <= MAX_SET).then(|| {
                class.ranges().iter().flat_map(|range| range.start()..=range.end()).map(String::from).collect()
            })
        }
        HirKind::Capture(capture) => spell_out(&capture.sub),
        HirKind::Repetition(repetition) if (repetition.min, repetition.max) == (0, Some(1)) => {
            let mut set = spell_out(&repetition.sub)?;
            set.push(String::new());
            (set.len() <= MAX_SET).then_some(set)
        }
        HirKind::Alternation(branches) => branches.iter().try_fold(Vec::new(), |mut set, branch| {
            set.append(&mut spell_out(branch)?);
            (set.len() <= MAX_SET).then_some(set)
        }),
        HirKind::Concat(parts) => parts.iter().try_fold(vec![String::new()], |set, part| {
            let next = spell_out(part)?;
            (set.len() * next.len() <= MAX_SET)
                .then(|| set.iter().flat_map(|head| next.iter().map(move |tail| format!("{head}{tail}"))).collect())
        }),
        HirKind::Class(Class::Bytes(_)) | HirKind::Look(_) | HirKind::Repetition(_) => None,
    }
}
