//! A `farview` process.

use anyhow::{Context, bail};
use serde_json::Value;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::process::{Child, Command};

/// How long a process may take to come up.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long an answer may take to become as wanted.
const UNTIL: Duration = Duration::from_secs(60);

/// Returns the `farview` binary: `$FARVIEW_BINARY`, or the one built beside the running test.
///
/// # Errors
/// If there is none.
pub fn binary() -> anyhow::Result<PathBuf> {
    if let Some(path) = std::env::var_os("FARVIEW_BINARY") {
        return Ok(path.into());
    }
    let exe = std::env::current_exe()?;
    let beside = exe.ancestors().skip(1).map(|dir| dir.join("farview")).find(|path| path.is_file());
    beside.context("no farview binary beside this one: build it first with `cargo build -p farview`")
}

/// A running `farview` process. Dropping it kills the process.
#[derive(Debug)]
pub struct Farview {
    name: String,
    child: Option<Child>,
    binary: PathBuf,
    args: Vec<String>,
    environment: BTreeMap<String, String>,
    log: PathBuf,
    /// Where it serves HTTP.
    pub http: SocketAddr,
    /// Where it serves gRPC.
    pub grpc: SocketAddr,
}

impl Farview {
    /// Starts a service with its addresses; what it logs goes to `<name>.log` in `dir`.
    ///
    /// # Errors
    /// If the process cannot be started.
    pub fn start(
        binary: &Path,
        dir: &Path,
        name: &str,
        service: &str,
        (http, grpc): (SocketAddr, SocketAddr),
        args: &[String],
    ) -> anyhow::Result<Self> {
        let mut all = vec![service.to_owned(), format!("--http-address={http}"), format!("--grpc-address={grpc}")];
        all.extend_from_slice(args);
        Self::start_as(binary, dir, name, (http, grpc), all, BTreeMap::new())
    }

    /// Starts any program that serves at these addresses, with all of its arguments and further environment.
    ///
    /// # Errors
    /// If the process cannot be started.
    pub fn start_as(
        binary: &Path,
        dir: &Path,
        name: &str,
        (http, grpc): (SocketAddr, SocketAddr),
        args: Vec<String>,
        environment: BTreeMap<String, String>,
    ) -> anyhow::Result<Self> {
        let log = dir.join(format!("{name}.log"));
        let (name, binary) = (name.to_owned(), binary.to_owned());
        let mut this = Self { name, child: None, binary, args, environment, log, http, grpc };
        this.restart()?;
        Ok(this)
    }

    /// Starts the process again as it was.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn restart(&mut self) -> anyhow::Result<()> {
        let log = std::fs::File::options().create(true).append(true).open(&self.log)?;
        let child = Command::new(&self.binary)
            .args(&self.args)
            .envs(&self.environment)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("start {}", self.binary.display()))?;
        self.child = Some(child);
        Ok(())
    }

    /// Returns the name that the log has.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the process' id, if it runs.
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().and_then(Child::id)
    }

    /// Returns the address of its HTTP API.
    pub fn url(&self) -> String {
        format!("http://{}", self.http)
    }

    /// Returns what it has logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Ends the process at once.
    ///
    /// # Errors
    /// If it is not running.
    pub async fn kill(&mut self) -> anyhow::Result<()> {
        let mut child = self.child.take().with_context(|| format!("{} is not running", self.name))?;
        child.kill().await?;
        Ok(())
    }

    /// Waits until the process has ended by itself.
    ///
    /// # Errors
    /// If it is not running, or does not end in time; its log is part of the error.
    pub async fn ended(&mut self) -> anyhow::Result<()> {
        let mut child = self.child.take().with_context(|| format!("{} is not running", self.name))?;
        let ended = tokio::time::timeout(PATIENCE, child.wait()).await;
        ended.with_context(|| format!("{} still runs after {PATIENCE:?}:\n{}", self.name, self.log()))??;
        Ok(())
    }

    /// Sends a signal, `STOP`, `CONT` or `TERM`.
    ///
    /// # Errors
    /// If it is not running.
    pub async fn signal(&self, signal: &str) -> anyhow::Result<()> {
        let pid = self.child.as_ref().and_then(Child::id).with_context(|| format!("{} is not running", self.name))?;
        let status = Command::new("kill").arg(format!("-{signal}")).arg(pid.to_string()).status().await?;
        if !status.success() {
            bail!("kill -{signal} {pid}: {status}");
        }
        Ok(())
    }

    /// Waits until it says that it is ready.
    ///
    /// # Errors
    /// If it ends before, or does not become ready; its log is part of the error.
    pub async fn ready(&mut self) -> anyhow::Result<()> {
        let url = format!("{}/-/ready", self.url());
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            if let Some(child) = &mut self.child
                && let Some(status) = child.try_wait()?
            {
                bail!("{} ended with {status}:\n{}", self.name, self.log());
            }
            let answer = reqwest::get(&url).await;
            if answer.is_ok_and(|answer| answer.status().is_success()) {
                return Ok(());
            }
            if tokio::time::Instant::now() > deadline {
                bail!("{} is not ready after {PATIENCE:?}:\n{}", self.name, self.log());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Asks the HTTP API; returns status, whole answer and the header that tells whether it is complete.
    ///
    /// # Errors
    /// If there is no answer, or one that is no JSON.
    pub async fn get(&self, path: &str, params: &[(&str, &str)]) -> anyhow::Result<Answer> {
        let response = reqwest::Client::new().get(format!("{}{path}", self.url())).query(params).send().await?;
        let status = response.status().as_u16();
        let complete =
            response.headers().get("x-farview-complete").and_then(|value| value.to_str().ok()).map(str::to_owned);
        let text = response.text().await?;
        let json = serde_json::from_str(&text).with_context(|| format!("{path} answered {status}: {text}"))?;
        Ok(Answer { status, json, complete })
    }

    /// Evaluates an instant query.
    ///
    /// # Errors
    /// As [`Farview::get`].
    pub async fn query(&self, query: &str, params: &[(&str, &str)]) -> anyhow::Result<Answer> {
        let mut all = vec![("query", query)];
        all.extend_from_slice(params);
        self.get("/api/v1/query", &all).await
    }

    /// Evaluates an instant query again and again until the answer is as wanted, which is `what` in words. `wanted` may panic at an
    /// answer that must not be.
    ///
    /// # Errors
    /// As [`Farview::get`], or if no answer within a minute is; the last one and the log are part of the error.
    pub async fn until(
        &self,
        query: &str,
        params: &[(&str, &str)],
        what: &str,
        wanted: impl Fn(&Answer) -> bool,
    ) -> anyhow::Result<Answer> {
        let deadline = tokio::time::Instant::now() + UNTIL;
        loop {
            let answer = self.query(query, params).await?;
            if wanted(&answer) {
                return Ok(answer);
            }
            if tokio::time::Instant::now() > deadline {
                bail!("not within {UNTIL:?}: {what}; last: {answer:?}\n{}", self.log());
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

/// An answer of the HTTP API.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The whole body.
    pub json: Value,
    /// `X-Farview-Complete`.
    pub complete: Option<String>,
}

impl Answer {
    /// Returns the series of an instant vector: labels and value, each as text.
    pub fn vector(&self) -> Vec<(Value, String)> {
        let result = self.json["data"]["result"].as_array().cloned().unwrap_or_default();
        let value = |series: &Value| series["value"][1].as_str().unwrap_or_default().to_owned();
        result.iter().map(|series| (series["metric"].clone(), value(series))).collect()
    }

    /// Returns the warnings.
    pub fn warnings(&self) -> Vec<String> {
        let list = self.json["warnings"].as_array().cloned().unwrap_or_default();
        list.iter().filter_map(|text| text.as_str().map(str::to_owned)).collect()
    }

    /// Returns the infos.
    pub fn infos(&self) -> Vec<String> {
        let list = self.json["infos"].as_array().cloned().unwrap_or_default();
        list.iter().filter_map(|text| text.as_str().map(str::to_owned)).collect()
    }

    /// Tells whether the answer says that nothing is missing.
    pub fn is_complete(&self) -> bool {
        self.complete.as_deref() == Some("true")
    }
}
