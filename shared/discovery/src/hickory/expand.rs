//! Which absolute names a name may stand for (resolv.conf(5), `search` and `ndots`).

/// Returns the absolute names to try in order. A name with a final dot stands for itself.
pub(super) fn candidates(name: &str, search: &[String], ndots: usize) -> Vec<String> {
    if name.ends_with('.') {
        return vec![name.to_owned()];
    }
    let itself = format!("{name}.");
    let mut all: Vec<String> = search.iter().map(|domain| format!("{name}.{}.", domain.trim_matches('.'))).collect();
    if name.matches('.').count() >= ndots {
        all.insert(0, itself);
    } else {
        all.push(itself);
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_dots_go_through_the_search_domains_first() {
        let search = ["mon.svc.cluster.local".to_owned(), "svc.cluster.local.".to_owned()];
        assert_eq!(
            candidates("store.mon", &search, 5),
            ["store.mon.mon.svc.cluster.local.", "store.mon.svc.cluster.local.", "store.mon."]
        );
        assert_eq!(candidates("store.mon", &search, 1)[0], "store.mon.");
        assert_eq!(candidates("store.mon.", &search, 5), ["store.mon."]);
        assert_eq!(candidates("store", &[], 1), ["store."]);
    }
}
