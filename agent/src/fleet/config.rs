//! `--http.config.file`: user, password and authorities, in the format of promtool's option of the same name.
//!
//! Secrets are in files alone: a command line can be read by every user of the host. None goes into a message.

use std::{fs, path::Path, path::PathBuf};

use base64::{Engine, engine::general_purpose::STANDARD};
use serde::Deserialize;
use tokio_rustls::rustls::pki_types::CertificateDer;
use ureq::tls::{Certificate, ClientCert, PrivateKey};

use crate::export::web::{certificates, refused, yaml};

/// What goes with each request.
#[derive(Default)]
pub struct Config {
    /// The value of the Authorization header.
    pub authorization: Option<String>,
    /// The authorities that are trusted; None: those of this host.
    pub authorities: Option<Vec<CertificateDer<'static>>>,
    /// A certificate of our own.
    pub own: Option<ClientCert>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct File {
    basic_auth: Option<Basic>,
    authorization: Option<Authorization>,
    tls_config: Option<Tls>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Basic {
    username: String,
    password: Option<String>,
    password_file: Option<PathBuf>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Authorization {
    r#type: Option<String>,
    credentials: Option<String>,
    credentials_file: Option<PathBuf>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Tls {
    ca_file: Option<PathBuf>,
    cert_file: Option<PathBuf>,
    key_file: Option<PathBuf>,
}

impl Config {
    /// Reads the file and those that it names, which are looked for beside it.
    ///
    /// # Errors
    /// One line: which file, where in it, and what is wrong.
    pub fn read(path: &Path) -> Result<Config, String> {
        let text = fs::read_to_string(path).map_err(|error| refused(path, &error))?;
        let wrong = |why: String| format!("{}: {why}", path.display());
        let file: File = yaml(&text).map_err(wrong)?;
        let beside = path.parent().unwrap_or(Path::new("."));
        let authorization = match (file.basic_auth, file.authorization) {
            (Some(_), Some(_)) => return Err(wrong("basic_auth or authorization, not both".to_owned())),
            (Some(basic), None) => Some(basic.header(beside).map_err(wrong)?),
            (None, Some(other)) => Some(other.header(beside).map_err(wrong)?),
            (None, None) => None,
        };
        if authorization.as_ref().is_some_and(|value| value.chars().any(char::is_control)) {
            return Err(wrong("control characters in what it authorizes by".to_owned()));
        }
        let tls = file.tls_config.unwrap_or_default();
        let authorities = tls.ca_file.as_ref().map(|file| certificates(&beside.join(file))).transpose()?;
        Ok(Config { authorization, authorities, own: tls.own(beside).map_err(wrong)? })
    }
}

impl Basic {
    fn header(self, beside: &Path) -> Result<String, String> {
        if self.username.contains(':') {
            return Err("basic_auth: a username has no colon".to_owned());
        }
        let password = secret("basic_auth: password", self.password, self.password_file, beside)?;
        Ok(format!("Basic {}", STANDARD.encode(format!("{}:{password}", self.username))))
    }
}

impl Authorization {
    fn header(self, beside: &Path) -> Result<String, String> {
        let kind = self.r#type.as_deref().unwrap_or("Bearer");
        let secret = secret("authorization: credentials", self.credentials, self.credentials_file, beside)?;
        Ok(format!("{kind} {secret}"))
    }
}

impl Tls {
    fn own(&self, beside: &Path) -> Result<Option<ClientCert>, String> {
        let (cert, key) = match (&self.cert_file, &self.key_file) {
            (None, None) => return Ok(None),
            (Some(cert), Some(key)) => (beside.join(cert), beside.join(key)),
            _ => return Err("tls_config: cert_file and key_file go together".to_owned()),
        };
        let chain = certificates(&cert)?;
        let chain: Vec<_> = chain.iter().map(|one| Certificate::from_der(one).to_owned()).collect();
        let pem = fs::read(&key).map_err(|error| refused(&key, &error))?;
        let key = PrivateKey::from_pem(&pem).map_err(|error| refused(&key, &error))?;
        Ok(Some(ClientCert::new_with_certs(&chain, key)))
    }
}

/// A secret that stands in the file, or in another one.
fn secret(what: &str, text: Option<String>, file: Option<PathBuf>, beside: &Path) -> Result<String, String> {
    match (text, file) {
        (Some(text), None) => Ok(text),
        (None, Some(file)) => {
            let file = beside.join(file);
            let text = fs::read_to_string(&file).map_err(|error| refused(&file, &error))?;
            Ok(text.trim_end_matches(['\r', '\n']).to_owned())
        }
        _ => Err(format!("{what} or {what}_file is wanted, one of them")),
    }
}
