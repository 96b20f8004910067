//! The nearest of the valid names.

/// Returns the candidate most like `name`, if any is like it at all.
///
/// Jaro-Winkler favours a common beginning, which fits dotted names; below 0.8 a suggestion misleads more than it helps.
pub fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    candidates
        .into_iter()
        .map(|c| (strsim::jaro_winkler(name, c).max(strsim::normalized_damerau_levenshtein(name, c)), c))
        .filter(|(likeness, _)| *likeness >= 0.8)
        .max_by(|a, b| a.0.total_cmp(&b.0).then_with(|| b.1.cmp(a.1)))
        .map(|(_, c)| c)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_found_and_nonsense_gets_none() {
        let names = ["query.replica-label", "query.timeout", "http-address", "grpc-address"];
        assert_eq!(nearest("query.replica-labels", names), Some("query.replica-label"));
        assert_eq!(nearest("http-adress", names), Some("http-address"));
        assert_eq!(nearest("zzzz", names), None);
    }
}
