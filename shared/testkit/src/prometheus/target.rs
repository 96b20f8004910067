//! Something to scrape.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{SystemTime, UNIX_EPOCH};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::{CancellationToken, DropGuard};

/// Serves `/metrics` whose samples carry their own time, so that every value that is ever stored can be checked:
/// `farview_linear{series="<i>"}` is `(i + 1) × t` and `farview_total{series="<i>"}` a counter of the same value, with `t`
/// the sample's time in seconds. Dropping it frees the port.
#[derive(Debug)]
pub struct ScrapeTarget {
    addr: SocketAddr,
    _stop: DropGuard,
}

impl ScrapeTarget {
    /// Starts a target with `series` series of each metric on a free port of 127.0.0.1.
    pub async fn start(series: usize) -> anyhow::Result<Self> {
        Self::serve(move || Self::text(series, now_millis())).await
    }

    /// Starts a target that says this text.
    pub async fn saying(text: &str) -> anyhow::Result<Self> {
        let text = text.to_owned();
        Self::serve(move || text.clone()).await
    }

    /// Returns where to scrape it.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Returns the value of series `i` at a time in ms.
    pub fn value(i: usize, millis: i64) -> f64 {
        (i + 1) as f64 * (millis as f64 / 1_000.0)
    }

    fn text(series: usize, millis: i64) -> String {
        let mut text = String::new();
        for (name, kind) in [("farview_linear", "gauge"), ("farview_total", "counter")] {
            text += &format!("# HELP {name} Rises with time.\n# TYPE {name} {kind}\n");
            for i in 0..series {
                text += &format!("{name}{{series=\"{i}\"}} {} {millis}\n", Self::value(i, millis));
            }
        }
        text
    }

    async fn serve(text: impl Fn() -> String + Send + Sync + Clone + 'static) -> anyhow::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let addr = listener.local_addr()?;
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    () = stopped.cancelled() => return,
                    accepted = listener.accept() => if let Ok((socket, _)) = accepted {
                        let text = text.clone();
                        tokio::spawn(stopped.clone().run_until_cancelled_owned(answer(socket, text)));
                    },
                }
            }
        });
        Ok(Self { addr, _stop: stop.drop_guard() })
    }
}

/// Answers the requests of one connection.
async fn answer(mut socket: TcpStream, text: impl Fn() -> String) {
    let mut request = Vec::new();
    loop {
        match socket.read_buf(&mut request).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        while let Some(end) = request.windows(4).position(|four| four == b"\r\n\r\n") {
            request.drain(..end + 4);
            let body = text();
            let head = format!(
                "HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4\r\nContent-Length: {}\r\n\r\n",
                body.len()
            );
            if socket.write_all(&[head.as_bytes(), body.as_bytes()].concat()).await.is_err() {
                return;
            }
        }
    }
}

fn now_millis() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64)
}
