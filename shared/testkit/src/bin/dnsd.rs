//! `dnsd`: the test DNS server in a process of its own.
//!
//! `dnsd --listen 127.0.0.1:5353 --records records.json` serves UDP and TCP and follows the file: a change is served within
//! 200 ms, a file that does not parse is reported and the former records stay. Port 0 takes a free port. The first line on
//! standard output is the address. The file:
//!
//! ```json
//! {"ttl": 5, "records": {"stores.mon.svc": {"a": ["127.0.0.1"], "aaaa": [], "srv": [{"target": "a.mon.svc", "port": 10901}],
//!                                            "fault": "servfail"}}}
//! ```
//!
//! `fault` is one of `servfail refused nxdomain nxdomain-without-soa nodata drop garbage truncate-without-tcp` or `{"delay": ms}`.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command-line tool speaks on its standard streams")]

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use farview_testkit::dns::{DnsServer, Fault};
use serde::Deserialize;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default = "five")]
    ttl: u32,
    records: BTreeMap<String, Entry>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct Entry {
    a: Vec<Ipv4Addr>,
    aaaa: Vec<Ipv6Addr>,
    srv: Vec<Service>,
    fault: Option<Fault>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Service {
    target: String,
    port: u16,
}

fn five() -> u32 {
    5
}

fn arguments() -> anyhow::Result<(SocketAddr, PathBuf)> {
    let (mut listen, mut records) = (None, None);
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let (flag, value) = match arg.split_once('=') {
            Some((flag, value)) => (flag.to_owned(), value.to_owned()),
            None => (arg.clone(), args.next().with_context(|| format!("{arg} needs a value"))?),
        };
        match flag.as_str() {
            "--listen" => listen = Some(value.parse().with_context(|| format!("--listen {value}"))?),
            "--records" => records = Some(PathBuf::from(value)),
            _ => anyhow::bail!("unknown flag {flag}; usage: dnsd --listen ADDRESS:PORT --records FILE"),
        }
    }
    Ok((listen.context("--listen is missing")?, records.context("--records is missing")?))
}

fn apply(server: &DnsServer, text: &[u8], known: &mut BTreeSet<String>) -> anyhow::Result<()> {
    let file: File = serde_json::from_slice(text)?;
    server.set_ttl(file.ttl);
    for name in known.iter().filter(|name| !file.records.contains_key(*name)) {
        server.remove(name);
    }
    *known = file.records.keys().cloned().collect();
    for (name, entry) in file.records {
        server.set_a(&name, entry.a);
        server.set_aaaa(&name, entry.aaaa);
        server.set_srv(&name, entry.srv.iter().map(|s| (s.target.as_str(), s.port)));
        match entry.fault {
            Some(fault) => server.fault(&name, fault),
            None => server.heal(&name),
        }
    }
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let (listen, path) = arguments()?;
    let server = DnsServer::start_at(listen).await?;
    let (mut served, mut known) = (Vec::new(), BTreeSet::new());
    let mut announced = false;
    loop {
        match std::fs::read(&path) {
            Ok(text) if text != served => {
                if let Err(error) = apply(&server, &text, &mut known) {
                    eprintln!("{}: {error:#}; the former records stay", path.display());
                }
                served = text;
            }
            Ok(_) => {}
            Err(error) if !announced => eprintln!("{}: {error}; serving no records yet", path.display()),
            Err(_) => {}
        }
        if !announced {
            println!("{}", server.addr());
            announced = true;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}
