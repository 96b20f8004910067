//! Documents that are made from declarations, so that they cannot say anything else than the binary does.

use std::collections::BTreeMap;
use std::fmt::Write;

use farview_config::{FlagKind, FlagSpec};

use crate::commands::Service;

/// Returns `docs/flags.md`: all flags of all services, with keys, variables and defaults.
pub(crate) fn flags(services: &[Service]) -> String {
    let mut out = String::from(
        "# Flags\n\nMade by `farview docs flags`; do not edit.\n\n\
         A value comes from the command line, else from the environment, else from the YAML file named by\n\
         `--farview.config-file`, else from the default. The key is the path in that file. A switch `--x` is turned off\n\
         by `--no-x`.\n",
    );
    let services = services.iter().map(|service| (service.name.to_owned(), service.command));
    let tools =
        farview_tools::bucket_tools().into_iter().map(|tool| (format!("tools bucket {}", tool.name), tool.command));
    for (name, command) in services.chain(tools) {
        let (_, schema) = command();
        let _ = write!(out, "\n## farview {name}\n");
        let mut groups: BTreeMap<&str, Vec<&FlagSpec>> = BTreeMap::new();
        for flag in schema.flags().filter(|f| !f.hidden) {
            groups.entry(&flag.group).or_default().push(flag);
        }
        for (group, flags) in groups {
            let _ = write!(out, "\n### {group}\n\n| flag | key | environment | default | |\n|---|---|---|---|---|\n");
            for flag in flags {
                let _ = writeln!(
                    out,
                    "| `{}` | {} | `{}` | {} | {} |",
                    signature(flag),
                    if flag.key == flag.flag { String::new() } else { format!("`{}`", flag.key) },
                    flag.env,
                    if flag.default.is_empty() { String::new() } else { format!("`{}`", flag.default.join(",")) },
                    cell(&flag.help, &flag.possible),
                );
            }
        }
    }
    out
}

fn signature(flag: &FlagSpec) -> String {
    match flag.kind {
        FlagKind::Switch => format!("--{}", flag.flag),
        FlagKind::Value => format!("--{}={}", flag.flag, flag.value_name),
        FlagKind::List => format!("--{}={} …", flag.flag, flag.value_name),
    }
}

fn cell(help: &str, possible: &[String]) -> String {
    let help = help.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|");
    match possible {
        [] => help,
        values => format!("{help} One of {}.", values.iter().map(|v| format!("`{v}`")).collect::<Vec<_>>().join(", ")),
    }
}
