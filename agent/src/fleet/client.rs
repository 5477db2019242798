//! Asks a Prometheus server: one blocking request after the other, bounded in time and size.
//!
//! Each failure is one line: what was asked where, what came, what to do. No secret goes into one. No proxy is asked and no
//! redirection followed, so that a password goes where it was meant to go.

use std::{path::Path, str::FromStr, sync::Arc, time::Duration};

use tokio_rustls::rustls::crypto::ring;
use ureq::{
    Agent, Error,
    http::{StatusCode, Uri, header},
    tls::{Certificate, RootCerts, TlsConfig},
};

use super::{
    answer::{Refused, Series, short, vector},
    config::Config,
};

/// How long a server may take for one answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// And until it has taken the connection.
const CONNECT: Duration = Duration::from_secs(5);
/// Bytes of an answer: some 100,000 series.
const LONGEST: u64 = 32 << 20;

/// Where a Prometheus server is: scheme, host, port, and the path before `/api` where there is one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url(String);

impl std::fmt::Display for Url {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Url {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wanted =
            "a URL is wanted such as http://prometheus:9090 or https://metrics.example.org/prometheus";
        let uri: Uri = text.parse().map_err(|_| wanted.to_owned())?;
        let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
            return Err(wanted.to_owned());
        };
        if !["http", "https"].contains(&scheme) || authority.host().is_empty() || uri.query().is_some() {
            return Err(wanted.to_owned());
        }
        Ok(Url(format!("{scheme}://{authority}{}", uri.path().trim_end_matches('/'))))
    }
}

impl Url {
    /// Whether a user or a password stands in it, where every user of the host can read it.
    pub fn has_secret(&self) -> bool {
        self.0.contains('@')
    }
}

/// A server, and how it is asked.
pub struct Client {
    url: Url,
    agent: Agent,
    authorization: Option<String>,
    patience: Duration,
}

impl Client {
    /// With what stands in the file of `--http.config.file`.
    ///
    /// # Errors
    /// One line: the URL has a password, or what is wrong in which file.
    pub fn new(url: Url, file: Option<&Path>) -> Result<Client, String> {
        Client::with_patience(url, file, PATIENCE)
    }

    /// The same, where an answer may take that long.
    pub(super) fn with_patience(url: Url, file: Option<&Path>, patience: Duration) -> Result<Client, String> {
        if url.has_secret() {
            return Err("--from: a user or a password in a URL shows in the list of processes; put them into a file for \
                        --http.config.file"
                .to_owned());
        }
        let config = file.map(Config::read).transpose();
        let config = config.map_err(|why| format!("--http.config.file {why}"))?.unwrap_or_default();
        let roots: Vec<Certificate<'static>> = match &config.authorities {
            Some(authorities) => {
                authorities.iter().map(|one| Certificate::from_der(one).to_owned()).collect()
            }
            None if url.0.starts_with("https") => {
                let own = rustls_native_certs::load_native_certs().certs;
                own.iter().map(|one| Certificate::from_der(one).to_owned()).collect()
            }
            None => Vec::new(),
        };
        let tls = TlsConfig::builder()
            .root_certs(RootCerts::new_with_certs(&roots))
            .client_cert(config.own)
            .unversioned_rustls_crypto_provider(Arc::new(ring::default_provider()))
            .build();
        let agent = Agent::config_builder()
            .tls_config(tls)
            .proxy(None)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .http_status_as_error(false)
            .timeout_global(Some(patience))
            .timeout_connect(Some(CONNECT))
            .user_agent(concat!("loopscope/", env!("CARGO_PKG_VERSION")))
            .build()
            .new_agent();
        Ok(Client { url, agent, authorization: config.authorization, patience })
    }

    /// The server.
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// The series of an expression, now or at that time by the server's clock.
    ///
    /// # Errors
    /// One line, which begins with the server.
    pub fn instant(&self, expression: &str, at: Option<f64>) -> Result<Vec<Series>, String> {
        let mut request = self.agent.get(format!("{}/api/v1/query", self.url)).query("query", expression);
        if let Some(at) = at {
            request = request.query("time", format!("{at:.3}"));
        }
        if let Some(authorization) = &self.authorization {
            request = request.header(header::AUTHORIZATION, authorization);
        }
        let failed = |error: &Error| format!("{}: {}", self.url, self.explain(error));
        let mut answer = request.call().map_err(|error| failed(&error))?;
        let status = answer.status();
        let place = answer.headers().get(header::LOCATION).and_then(|place| place.to_str().ok()).map(short);
        let body = answer.body_mut().with_config().limit(LONGEST).lossy_utf8(true).read_to_string();
        let body = body.map_err(|error| failed(&error))?;
        self.read(status, place, &body)
    }

    fn read(&self, status: StatusCode, place: Option<String>, body: &str) -> Result<Vec<Series>, String> {
        let url = &self.url;
        let other = "what answers there is no Prometheus; give the URL that its own page has, without /graph or /query";
        match (status.as_u16(), vector(body)) {
            (200, Ok(series)) => Ok(series),
            (401, _) => Err(format!(
                "{url}: a user and a password are asked for, or these are not right (401); see --http.config.file"
            )),
            (403, _) => Err(format!("{url}: this user may not ask (403); see --http.config.file")),
            (300..=399, _) => Err(match place {
                Some(place) => format!("{url}: leads on to {place}; give --from the URL where Prometheus is"),
                None => format!("{url}: {other}"),
            }),
            (_, Err(Refused::Said(error))) => Err(format!("{url}: Prometheus refuses: {error}")),
            (500..=599, _) => Err(format!(
                "{url}: answers {}: {}; see the server's own log",
                status.as_u16(),
                Some(short(body)).filter(|text| !text.is_empty()).unwrap_or_else(|| "nothing".to_owned())
            )),
            (200, Err(Refused::NotPrometheus)) => Err(format!("{url}: {other}")),
            (code, _) => Err(format!("{url}: answers {code}; {other}")),
        }
    }
    /// What went wrong on the way, and what to do.
    fn explain(&self, error: &Error) -> String {
        match error {
            Error::Timeout(_) => {
                format!("no answer within {} s; is it the right port?", self.patience.as_secs_f64())
            }
            Error::HostNotFound => "no such host; see --from".to_owned(),
            Error::ConnectionFailed => "cannot connect; is Prometheus running there?".to_owned(),
            Error::BodyExceedsLimit(_) => {
                format!(
                    "an answer is longer than {} MB; --max-groups of the agents bounds series",
                    LONGEST >> 20
                )
            }
            Error::Io(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => {
                "nobody listens there; is Prometheus running, and is it the right port?".to_owned()
            }
            error => {
                let text = short(&error.to_string());
                let hint = match text.to_lowercase() {
                    text if text.contains("unknownissuer") => {
                        "; name its authority as ca_file in --http.config.file"
                    }
                    text if text.contains("corrupt message") || text.contains("invalidcontenttype") => {
                        "; does it speak TLS there? try http://"
                    }
                    text if text.contains("protocol") => "; does it speak TLS there? try https://",
                    _ => "; see --from",
                };
                format!("{text}{hint}")
            }
        }
    }
}
