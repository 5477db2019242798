//! A Prometheus of our own on loopback, and its HTTP API.

use std::{
    fs,
    io::{Read, Write},
    net::{Ipv4Addr, TcpStream},
    path::Path,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::{
    bench::{servers::free_port, started::Started},
    process,
};

/// How often it scrapes and evaluates.
pub const SCRAPE_SECONDS: u64 = 1;
/// How long it may take to start, to scrape for the first time, and to answer.
const PATIENCE: Duration = Duration::from_secs(60);

/// It ends with its value.
pub struct Prometheus {
    _server: Started,
    port: u16,
}

impl Prometheus {
    /// Starts it in `folder`, to scrape `target` and to evaluate the rules of the repository.
    pub fn start(root: &Path, folder: &Path, target: &str) -> Result<Prometheus> {
        let (port, file) = (free_port()?, folder.join("prometheus.yml"));
        let rules = root.join("dashboards/rules/loopscope.rules.yml");
        let text = format!(
            "global: {{ scrape_interval: {SCRAPE_SECONDS}s, evaluation_interval: {SCRAPE_SECONDS}s }}\n\
             rule_files: ['{}']\n\
             scrape_configs:\n  - job_name: loopscope\n    static_configs: [{{ targets: ['{target}'] }}]\n",
            rules.display()
        );
        fs::write(&file, text).context("write Prometheus' configuration")?;
        let program = process::find("prometheus").context("prometheus is not there")?;
        let arguments = [
            format!("--config.file={}", file.display()),
            format!("--storage.tsdb.path={}", folder.join("tsdb").display()),
            format!("--web.listen-address=127.0.0.1:{port}"),
            "--log.level=warn".to_owned(),
        ];
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let mut server = Started::new(&program.to_string_lossy(), &arguments)?;
        let deadline = Instant::now() + PATIENCE;
        while !get(port, "/-/ready").is_ok_and(|(status, _)| status == 200) {
            if Instant::now() > deadline {
                bail!("prometheus does not get ready: {}", server.said());
            }
            thread::sleep(Duration::from_millis(100));
        }
        Ok(Prometheus { _server: server, port })
    }

    /// Waits until the agent was scraped. Discovery starts up to five seconds late.
    pub fn wait_for_up(&self) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while self.instant("up == 1")?.is_empty() {
            if Instant::now() > deadline {
                bail!("the agent was not scraped within {} s", PATIENCE.as_secs());
            }
            thread::sleep(Duration::from_millis(500));
        }
        Ok(())
    }

    /// The series of an expression now.
    pub fn instant(&self, expression: &str) -> Result<Vec<Value>> {
        self.series(&format!("/api/v1/query?query={}", encode(expression)), expression)
    }

    /// The series of an expression over a time, a value per step.
    pub fn range(&self, expression: &str, [start, end]: [f64; 2], step: u64) -> Result<Vec<Value>> {
        let query = encode(expression);
        self.series(
            &format!("/api/v1/query_range?query={query}&start={start:.3}&end={end:.3}&step={step}"),
            expression,
        )
    }

    /// The `data` of any other path.
    pub fn data(&self, path: &str) -> Result<Value> {
        let (status, body) = get(self.port, path)?;
        let mut answer: Value =
            serde_json::from_str(&body).with_context(|| format!("read the answer to {path}"))?;
        if status != 200 || answer.get("status").is_none_or(|said| said != "success") {
            bail!("{}", answer.get("error").and_then(Value::as_str).unwrap_or("no success"));
        }
        Ok(answer.get_mut("data").map(Value::take).unwrap_or_default())
    }

    fn series(&self, path: &str, expression: &str) -> Result<Vec<Value>> {
        let mut data = self.data(path).with_context(|| format!("evaluate {expression}"))?;
        match data.get_mut("result").map(Value::take) {
            Some(Value::Array(series)) => Ok(series),
            other => bail!("{expression} is no vector: {other:?}"),
        }
    }
}

/// Status and body. HTTP/1.0, so that the body comes in one piece.
fn get(port: u16, path: &str) -> Result<(u16, String)> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).context("connect to prometheus")?;
    stream.set_read_timeout(Some(PATIENCE)).context("set a time-out")?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n").context("ask prometheus")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).context("read prometheus' answer")?;
    let (head, body) = answer.split_once("\r\n\r\n").context("prometheus' answer has no end of head")?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    Ok((status, body.to_owned()))
}

/// Percent encoding of everything that is not plainly allowed in a query.
fn encode(text: &str) -> String {
    let byte = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(byte).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_survives_its_way() {
        assert_eq!(
            encode("rate(a{b=~\".+\"}[1m])"),
            "rate%28a%7Bb%3D~%22.%2B%22%7D%5B1m%5D%29".replace('~', "%7E")
        );
    }
}
