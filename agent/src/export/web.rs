//! `--web.config.file`: TLS and passwords, in the format of Prometheus' own exporters (exporter-toolkit).
//!
//! What it holds is checked as a whole before anything is served with it. No secret of it goes into a message.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use serde::{Deserialize, de::DeserializeOwned};
use tokio_rustls::rustls::{
    RootCertStore, ServerConfig, SupportedProtocolVersion,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::WebPkiClientVerifier,
    version::{TLS12, TLS13},
};

use super::server::Users;

/// How the server meets its clients.
#[derive(Default)]
pub struct Web {
    /// Certificate and key; None: plain HTTP.
    pub tls: Option<Arc<ServerConfig>>,
    /// Who may ask; None: everyone.
    pub users: Option<Arc<Users>>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct File {
    tls_server_config: Option<Tls>,
    basic_auth_users: Option<BTreeMap<String, String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Tls {
    cert_file: PathBuf,
    key_file: PathBuf,
    client_ca_file: Option<PathBuf>,
    #[serde(default)]
    client_auth_type: ClientAuth,
    #[serde(default)]
    min_version: Version,
}

/// Go's names, as far as rustls does the same.
#[derive(Clone, Copy, Default, PartialEq, Eq, Deserialize)]
enum ClientAuth {
    #[default]
    NoClientCert,
    VerifyClientCertIfGiven,
    RequireAndVerifyClientCert,
}

#[derive(Default, Deserialize)]
enum Version {
    #[default]
    TLS12,
    TLS13,
}

impl Web {
    /// Reads the file and those that it names, which are looked for beside it.
    ///
    /// # Errors
    /// One line: which file, where in it, and what is wrong.
    pub fn read(path: &Path) -> Result<Web, String> {
        let text = fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
        let file = parse(&text).map_err(|why| format!("{}: {why}", path.display()))?;
        let beside = path.parent().unwrap_or(Path::new("."));
        let tls = file.tls_server_config.map(|tls| tls.load(beside)).transpose()?;
        let users = file.basic_auth_users.filter(|users| !users.is_empty());
        let users = users.map(Users::new).transpose().map_err(|why| format!("{}: {why}", path.display()))?;
        Ok(Web { tls: tls.map(Arc::new), users: users.map(Arc::new) })
    }
}

fn parse(text: &str) -> Result<File, String> {
    yaml(text)
}

/// Reads a YAML file's text.
///
/// # Errors
/// One line: where in it, and what is wrong.
pub fn yaml<T: Default + DeserializeOwned>(text: &str) -> Result<T, String> {
    let options = serde_saphyr::options! { with_snippet: false };
    // An empty file asks for nothing.
    let file: Option<T> = serde_saphyr::from_str_with_options(text, options).map_err(|error| {
        let line = error.location().map(|location| format!("line {}: ", location.line()));
        // The message names the place once more, in its own words and behind it.
        let message = error.to_string();
        let message = message.lines().next().unwrap_or_default();
        let message = message.split(" at line ").next().unwrap_or_default();
        format!("{}{}", line.unwrap_or_default(), message.trim_start_matches("error: "))
    })?;
    Ok(file.unwrap_or_default())
}

/// For the fuzz targets alone: what `--web.config.file` makes of a file with that text, but for the files that it names.
///
/// # Errors
/// As [`Web::read`].
#[cfg(fuzzing)]
pub fn fuzz(text: &str) -> Result<Option<Users>, String> {
    parse(text)?.basic_auth_users.map(Users::new).transpose()
}

impl Tls {
    fn load(&self, beside: &Path) -> Result<ServerConfig, String> {
        let cert = beside.join(&self.cert_file);
        let key = beside.join(&self.key_file);
        let chain = certificates(&cert)?;
        let private = PrivateKeyDer::from_pem_file(&key).map_err(|error| refused(&key, &error))?;
        let versions: &[&SupportedProtocolVersion] = match self.min_version {
            Version::TLS12 => &[&TLS12, &TLS13],
            Version::TLS13 => &[&TLS13],
        };
        let provider = Arc::new(ring::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(versions)
            .map_err(|error| refused(&cert, &error))?;
        let builder = match (&self.client_ca_file, self.client_auth_type) {
            (None, ClientAuth::NoClientCert) => builder.with_no_client_auth(),
            (None, _) => return Err("client_auth_type needs a client_ca_file".to_owned()),
            (Some(_), ClientAuth::NoClientCert) => {
                return Err("client_ca_file needs client_auth_type: RequireAndVerifyClientCert".to_owned());
            }
            (Some(file), kind) => {
                let file = beside.join(file);
                let mut roots = RootCertStore::empty();
                for certificate in certificates(&file)? {
                    roots.add(certificate).map_err(|error| refused(&file, &error))?;
                }
                let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider);
                let verifier = match kind {
                    ClientAuth::VerifyClientCertIfGiven => verifier.allow_unauthenticated(),
                    _ => verifier,
                };
                builder.with_client_cert_verifier(verifier.build().map_err(|error| refused(&file, &error))?)
            }
        };
        let mut config = builder.with_single_cert(chain, private).map_err(|error| {
            format!("{} and {}: {error}; they must belong together", cert.display(), key.display())
        })?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(config)
    }
}

/// The certificates of a PEM file.
///
/// # Errors
/// One line: which file, and what is wrong.
pub fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let read = CertificateDer::pem_file_iter(file).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    match read.map_err(|error| refused(file, &error))? {
        none if none.is_empty() => Err(format!("{}: no certificate in it", file.display())),
        some => Ok(some),
    }
}

/// What is wrong with a file, in one line.
pub fn refused(file: &Path, error: &dyn std::fmt::Display) -> String {
    format!("{}: {error}", file.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(text: &str) -> String {
        parse(text).err().unwrap_or_else(|| panic!("{text} is taken"))
    }

    #[test]
    fn a_file_may_be_empty() {
        for text in ["", "\n", "# nothing\n", "---\n", "{}\n"] {
            let file = parse(text).unwrap();
            assert!(file.tls_server_config.is_none() && file.basic_auth_users.is_none(), "{text:?}");
        }
    }

    #[test]
    fn what_is_unknown_is_named_with_its_line() {
        let why = refusal("basic_auth_users:\n  a: b\nbasic_auth_user:\n  a: b\n");
        assert!(
            why.starts_with("line 3: ") && why.contains("basic_auth_user") && !why.contains('\n'),
            "{why}"
        );
        let why = refusal("tls_server_config:\n  cert_file: c\n  key_file: k\n  cipher_suits: []\n");
        assert!(why.starts_with("line 4: ") && why.contains("cipher_suits"), "{why}");
        let why = refusal("tls_server_config:\n  cert_file: c\n");
        assert!(why.contains("key_file"), "{why}");
        let why = refusal("tls_server_config:\n  cert_file: c\n  key_file: k\n  min_version: SSL30\n");
        assert!(why.starts_with("line 4: ") && why.contains("TLS13"), "{why}");
        for text in ["[", "a", "tls_server_config: 7", "basic_auth_users: [a]", "\u{0}", "a: &a [*a, *a]"] {
            assert!(!refusal(text).is_empty(), "{text:?}");
        }
    }

    #[test]
    fn files_that_are_not_there_or_hold_nothing_are_named() {
        let folder = std::env::temp_dir().join(format!("loopscope-web-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let file = folder.join("web.yml");
        let read = |text: &str| {
            fs::write(&file, text).unwrap();
            Web::read(&file).err().unwrap_or_default()
        };
        assert!(read("tls_server_config: {cert_file: no.crt, key_file: no.key}").contains("no.crt"));
        fs::write(folder.join("empty.crt"), "nothing").unwrap();
        let why = read("tls_server_config: {cert_file: empty.crt, key_file: no.key}");
        assert!(why.contains("empty.crt: no certificate"), "{why}");
        let why = read("basic_auth_users: {prometheus: open-sesame}");
        assert!(why.contains("prometheus") && why.contains("bcrypt") && !why.contains("sesame"), "{why}");
        assert_eq!(
            read("basic_auth_users: {a: $2y$04$CkXkvPTc6Uj6fvzYOJY/fODrSsNTv4HMBqDbbNG3XUQrTDDiLxlNK}"),
            ""
        );
        assert!(Web::read(&folder.join("none.yml")).err().unwrap().contains("none.yml"));
        fs::remove_dir_all(&folder).unwrap();
    }
}
