//! Real Prometheus servers: started in a folder of their own on a free port, given data, asked, reloaded, frozen and killed.
//!
//! The binary is `$FARVIEW_PROMETHEUS`, or the one of the machine; the newest 3.x, where there is one, is
//! `$FARVIEW_PROMETHEUS3`. Data come from [`ScrapeTarget`]s, whose values follow from time in closed form, or from blocks
//! that promtool makes of OpenMetrics text ([`Builder::openmetrics`]).
//!
//! Nothing here imitates Prometheus.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use serde_json::Value;
use tokio::process::{Child, Command};

mod target;

pub use target::ScrapeTarget;

/// How long a server may take to start, or data to appear.
const PATIENCE: Duration = Duration::from_secs(60);

/// Which binary to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Version {
    /// The one of the machine.
    #[default]
    Two,
    /// The newest.
    Three,
}

impl Version {
    /// Returns the versions that there are on this machine, the oldest first.
    pub fn available() -> Vec<Self> {
        [Self::Two, Self::Three].into_iter().filter(|version| version.binary("PROMETHEUS").is_ok()).collect()
    }

    /// Returns the path of the server.
    ///
    /// # Errors
    /// If there is none on this machine.
    pub fn prometheus(self) -> anyhow::Result<PathBuf> {
        self.binary("PROMETHEUS")
    }

    /// Returns the path of promtool.
    ///
    /// # Errors
    /// If there is none on this machine.
    pub fn promtool(self) -> anyhow::Result<PathBuf> {
        self.binary("PROMTOOL")
    }

    fn binary(self, what: &str) -> anyhow::Result<PathBuf> {
        let variable = match self {
            Self::Two => format!("FARVIEW_{what}"),
            Self::Three => format!("FARVIEW_{what}3"),
        };
        let set = std::env::var_os(&variable).map(PathBuf::from);
        let machine = (self == Self::Two).then(|| PathBuf::from("/usr/bin").join(what.to_lowercase()));
        let found = set.or(machine).filter(|path| path.is_file());
        found.with_context(|| format!("no {} on this machine: set {variable}", what.to_lowercase()))
    }
}

/// A server to be started.
#[derive(Debug, Clone, Default)]
pub struct Builder {
    version: Version,
    external_labels: Vec<(String, String)>,
    jobs: Vec<(String, Vec<SocketAddr>)>,
    rules: Option<String>,
    openmetrics: Option<String>,
    blocks: Vec<PathBuf>,
    args: Vec<String>,
    config: Option<String>,
    port: u16,
}

impl Builder {
    /// Chooses the binary.
    pub fn version(mut self, version: Version) -> Self {
        self.version = version;
        self
    }

    /// Adds an external label.
    pub fn external_label(mut self, name: &str, value: &str) -> Self {
        self.external_labels.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Scrapes targets every 200 ms.
    pub fn job(mut self, name: &str, targets: impl IntoIterator<Item = SocketAddr>) -> Self {
        self.jobs.push((name.to_owned(), targets.into_iter().collect()));
        self
    }

    /// Evaluates a file of rules, given as YAML.
    pub fn rules(mut self, yaml: &str) -> Self {
        self.rules = Some(yaml.to_owned());
        self
    }

    /// Begins with blocks made of OpenMetrics text, whose samples carry times in seconds; `# EOF` is added.
    pub fn openmetrics(mut self, text: &str) -> Self {
        self.openmetrics = Some(text.to_owned());
        self
    }

    /// Begins with a copy of the block in this folder. May be called more than once.
    pub fn blocks(mut self, folder: &Path) -> Self {
        self.blocks.push(folder.to_owned());
        self
    }

    /// Adds an argument to the command line.
    pub fn arg(mut self, arg: &str) -> Self {
        self.args.push(arg.to_owned());
        self
    }

    /// Uses this configuration file instead of one made from jobs and external labels.
    pub fn config(mut self, yaml: &str) -> Self {
        self.config = Some(yaml.to_owned());
        self
    }

    /// Listens on this port of 127.0.0.1; a free one otherwise.
    pub fn port(mut self, port: u16) -> Self {
        self.port = port;
        self
    }

    /// Starts the server and waits until it is ready.
    ///
    /// # Errors
    /// If there is no binary, or the server does not become ready; its log is part of the error.
    pub async fn start(self) -> anyhow::Result<Prometheus> {
        let dir = tempfile::tempdir()?;
        let data = dir.path().join("data");
        std::fs::create_dir(&data)?;
        if let Some(text) = &self.openmetrics {
            self.make_blocks(text, dir.path(), &data).await?;
        }
        for block in &self.blocks {
            let name = block.file_name().with_context(|| format!("{} has no name", block.display()))?;
            copy(block, &data.join(name)).with_context(|| format!("copy {}", block.display()))?;
        }
        if let Some(rules) = &self.rules {
            std::fs::write(dir.path().join("rules.yml"), rules)?;
        }
        std::fs::write(
            dir.path().join("prometheus.yml"),
            self.config.clone().unwrap_or_else(|| self.yaml(dir.path())),
        )?;
        let mut prometheus =
            Prometheus { dir, builder: self, child: None, addr: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)) };
        prometheus.restart().await?;
        Ok(prometheus)
    }

    /// Returns the configuration file.
    fn yaml(&self, dir: &Path) -> String {
        let labels: Vec<String> = self.external_labels.iter().map(|(n, v)| format!("{n:?}: {v:?}")).collect();
        let mut yaml = format!(
            "global:\n  scrape_interval: 200ms\n  scrape_timeout: 200ms\n  evaluation_interval: 200ms\n  external_labels: {{{}}}\n",
            labels.join(", ")
        );
        if self.rules.is_some() {
            yaml += &format!("rule_files: [{:?}]\n", dir.join("rules.yml"));
        }
        yaml += "scrape_configs:\n";
        for (job, targets) in &self.jobs {
            let targets: Vec<String> = targets.iter().map(|target| format!("{:?}", target.to_string())).collect();
            yaml += &format!("- job_name: {job:?}\n  static_configs: [{{targets: [{}]}}]\n", targets.join(", "));
        }
        yaml
    }

    async fn make_blocks(&self, text: &str, dir: &Path, data: &Path) -> anyhow::Result<()> {
        let input = dir.join("input.om");
        std::fs::write(&input, format!("{}\n# EOF\n", text.trim_end()))?;
        let output = Command::new(self.version.binary("PROMTOOL")?)
            .args(["tsdb", "create-blocks-from", "openmetrics"])
            .args([&input, data])
            .output()
            .await
            .context("run promtool")?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(output.status.success(), "promtool made no blocks: {said}");
        Ok(())
    }
}

/// A running server. Dropping it kills the process and removes its folder.
#[derive(Debug)]
pub struct Prometheus {
    dir: tempfile::TempDir,
    builder: Builder,
    child: Option<Child>,
    addr: SocketAddr,
}

impl Prometheus {
    /// Describes a server to be started.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// Returns where it listens. Stays the same when it is started again.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Returns its address as a URL, without a final slash.
    pub fn url(&self) -> String {
        format!("http://{}{}", self.addr, self.prefix())
    }

    fn prefix(&self) -> &str {
        let given = self.builder.args.iter().find_map(|arg| arg.strip_prefix("--web.route-prefix="));
        given.unwrap_or_default().trim_end_matches('/')
    }

    /// Returns the folder with `prometheus.yml`, `rules.yml`, `data/` and `log`.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Returns the configuration file.
    pub fn config_file(&self) -> PathBuf {
        self.dir.path().join("prometheus.yml")
    }

    /// Returns the process' id, if it runs.
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().and_then(Child::id)
    }

    /// Replaces the external labels in the configuration file; they count from the next [`Prometheus::reload`] on.
    pub fn set_external_labels(&mut self, labels: &[(&str, &str)]) -> anyhow::Result<()> {
        self.builder.external_labels = labels.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        Ok(std::fs::write(self.config_file(), self.builder.yaml(self.dir.path()))?)
    }

    /// Has it read its configuration file again.
    pub async fn reload(&self) -> anyhow::Result<()> {
        let response = reqwest::Client::new().post(format!("{}/-/reload", self.url())).send().await?;
        ensure!(response.status().is_success(), "reload: {}", response.text().await?);
        Ok(())
    }

    /// Ends the process at once (SIGKILL) and waits until it is gone.
    pub async fn kill(&mut self) -> anyhow::Result<()> {
        if let Some(mut child) = self.child.take() {
            child.kill().await?;
        }
        Ok(())
    }

    /// Freezes the process (SIGSTOP): connections open, nothing answers.
    pub async fn freeze(&self) -> anyhow::Result<()> {
        self.signal("STOP").await
    }

    /// Lets a frozen process go on.
    pub async fn thaw(&self) -> anyhow::Result<()> {
        self.signal("CONT").await
    }

    async fn signal(&self, signal: &str) -> anyhow::Result<()> {
        let pid = self.pid().context("it does not run")?;
        let status = Command::new("kill").args([&format!("-{signal}"), &pid.to_string()]).status().await?;
        ensure!(status.success(), "kill -{signal} {pid}: {status}");
        Ok(())
    }

    /// Starts it (again) on its data and its port, and waits until it is ready.
    pub async fn restart(&mut self) -> anyhow::Result<()> {
        self.kill().await?;
        self.spawn()?;
        let (start, log) = (Instant::now(), self.dir.path().join("log"));
        while start.elapsed() < PATIENCE {
            let text = std::fs::read_to_string(&log).unwrap_or_default();
            if let Some(addr) = listening(&text) {
                self.addr = addr;
                if self.get("/-/ready").await.is_ok() {
                    return Ok(());
                }
            }
            if let Some(status) = self.child.as_mut().and_then(|child| child.try_wait().ok().flatten()) {
                bail!("Prometheus ended with {status}: {text}");
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        bail!("Prometheus is not ready: {}", std::fs::read_to_string(&log).unwrap_or_default())
    }

    /// Starts the process without waiting for anything.
    fn spawn(&mut self) -> anyhow::Result<()> {
        let path = |name: &str| self.dir.path().join(name);
        let log = std::fs::File::create(path("log"))?;
        let port = if self.addr.port() == 0 { self.builder.port } else { self.addr.port() };
        let child = Command::new(self.builder.version.binary("PROMETHEUS")?)
            .arg(format!("--config.file={}", path("prometheus.yml").display()))
            .arg(format!("--storage.tsdb.path={}", path("data").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .args(["--web.enable-lifecycle", "--storage.tsdb.retention.time=100y"])
            .args(&self.builder.args)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .context("start Prometheus")?;
        self.child = Some(child);
        Ok(())
    }

    async fn get(&self, path: &str) -> anyhow::Result<String> {
        let client = reqwest::Client::builder().timeout(Duration::from_secs(30)).build()?;
        let response = client.get(format!("{}{path}", self.url())).send().await?;
        let (status, text) = (response.status(), response.text().await?);
        ensure!(status.is_success(), "{path} answered {status}: {text}");
        Ok(text)
    }

    /// Asks an API end point, as `/api/v1/labels?match[]=up`, and returns `data` of the answer.
    pub async fn api(&self, path_and_query: &str) -> anyhow::Result<Value> {
        let mut answer: Value = serde_json::from_str(&self.get(path_and_query).await?)?;
        Ok(answer["data"].take())
    }

    /// Evaluates an instant query, now or at a time in seconds; returns `result`.
    pub async fn query(&self, query: &str, time: Option<f64>) -> anyhow::Result<Value> {
        let mut url = reqwest::Url::parse(&format!("{}/api/v1/query", self.url()))?;
        url.query_pairs_mut().append_pair("query", query);
        if let Some(time) = time {
            url.query_pairs_mut().append_pair("time", &time.to_string());
        }
        let (path, query) = (url.path().trim_start_matches(self.prefix()), url.query().unwrap_or_default());
        Ok(self.api(&format!("{path}?{query}")).await?["result"].take())
    }

    /// Waits until an instant query has at least `series` results.
    pub async fn wait_for(&self, query: &str, series: usize) -> anyhow::Result<()> {
        let start = Instant::now();
        loop {
            let result = self.query(query, None).await?;
            if result.as_array().is_some_and(|found| found.len() >= series) {
                return Ok(());
            }
            ensure!(start.elapsed() < PATIENCE, "{query} has no {series} results after {PATIENCE:?}: {result}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

fn copy(from: &Path, to: &Path) -> std::io::Result<()> {
    std::fs::create_dir(to)?;
    for entry in std::fs::read_dir(from)? {
        let (from, to) = (entry.as_ref().map(std::fs::DirEntry::path), entry.as_ref().map(|e| to.join(e.file_name())));
        let (Ok(from), Ok(to)) = (from, to) else { continue };
        if from.is_dir() { copy(&from, &to)? } else { _ = std::fs::copy(&from, &to)? }
    }
    Ok(())
}

/// Finds the address in the log: `msg="Listening on" address=127.0.0.1:43321`.
fn listening(log: &str) -> Option<SocketAddr> {
    let line = log.lines().find(|line| line.contains("Listening on"))?;
    let (_, address) = line.split_once("address=")?;
    address.split_whitespace().next()?.trim_matches('"').parse().ok()
}
