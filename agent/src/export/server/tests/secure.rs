//! Claims about TLS, passwords and gzip, from a client's side.

use std::{fs, path::PathBuf};

use base64::{Engine, prelude::BASE64_STANDARD};
use flate2::read::GzDecoder;
use rcgen::{CertificateParams, KeyPair};
use tokio_rustls::rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName},
};

use super::*;

/// A folder with a certificate for localhost, its key, and a configuration.
struct Folder(PathBuf, CertificateDer<'static>, KeyPair);

impl Folder {
    fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("loopscope-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        let certificate = params.self_signed(&key).unwrap();
        fs::write(path.join("server.crt"), certificate.pem()).unwrap();
        fs::write(path.join("server.key"), key.serialize_pem()).unwrap();
        Folder(path, certificate.der().clone(), key)
    }

    fn web(&self, text: &str) -> Web {
        fs::write(self.0.join("web.yml"), text).unwrap();
        Web::read(&self.0.join("web.yml")).unwrap()
    }

    /// Everything that a TLS client gets for a request; `own`: one that shows our certificate.
    fn ask(&self, address: SocketAddr, own: bool) -> Result<String, String> {
        let mut roots = RootCertStore::empty();
        roots.add(self.1.clone()).unwrap();
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let builder = builder.with_safe_default_protocol_versions().unwrap().with_root_certificates(roots);
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(self.2.serialize_der()));
        let config = match own {
            true => builder.with_client_auth_cert(vec![self.1.clone()], key).unwrap(),
            false => builder.with_no_client_auth(),
        };
        let name = ServerName::try_from("localhost").unwrap();
        let client = ClientConnection::new(Arc::new(config), name).unwrap();
        let mut stream = StreamOwned::new(client, send(address, ""));
        let mut answer = String::new();
        let asked = stream.write_all(b"GET /-/healthy HTTP/1.1\r\nHost: x\r\n\r\n");
        asked.and_then(|()| stream.read_to_string(&mut answer)).map_err(|error| error.to_string())?;
        Ok(answer)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

const TLS: &str = "tls_server_config:\n  cert_file: server.crt\n  key_file: server.key\n";

#[test]
fn with_a_certificate_only_tls_is_spoken_and_it_can_be_changed_meanwhile() {
    let folder = Folder::new("tls");
    let limits = Limits { head_time: Duration::from_millis(500), ..Limits::default() };
    let (address, server, _exchange, _wakes) = start_with(limits, folder.web(TLS));
    let answer = folder.ask(address, false).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.ends_with("healthy\n"), "{answer}");
    let mut plain = send(address, "GET /-/healthy HTTP/1.1\r\nHost: x\r\n\r\n");
    let mut answer = Vec::new();
    let _ = plain.read_to_end(&mut answer);
    assert!(!answer.starts_with(b"HTTP"), "{}", String::from_utf8_lossy(&answer));
    // A handshake that never goes on ends.
    let mut silent = send(address, "");
    assert_eq!(silent.read(&mut [0; 8]).unwrap(), 0);
    server.reload(Web::default());
    assert_eq!(ask(address, "GET", "/-/healthy").0, 200);
    server.stop();
}

#[test]
fn a_client_shows_a_certificate_where_that_is_asked_for() {
    let folder = Folder::new("mutual");
    let text = format!("{TLS}  client_ca_file: server.crt\n  client_auth_type: RequireAndVerifyClientCert\n");
    let (address, server, _exchange, _wakes) = start_with(Limits::default(), folder.web(&text));
    assert!(folder.ask(address, true).unwrap().starts_with("HTTP/1.1 200 OK"));
    assert!(folder.ask(address, false).is_err());
    server.stop();
}

#[test]
fn only_users_with_their_password_get_an_answer() {
    let folder = Folder::new("users");
    let hash = bcrypt::hash("open sesame", 4).unwrap();
    let web = folder.web(&format!("basic_auth_users:\n  ali: {hash}\n"));
    let (address, server, _exchange, _wakes) = start_with(Limits::default(), web);
    let with = |path: &str, credentials: &str| {
        let encoded = BASE64_STANDARD.encode(credentials);
        let head = format!("GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Basic {encoded}\r\n\r\n");
        receive(send(address, &head))
    };
    for path in ["/-/healthy", "/nowhere", "/metrics"] {
        let (status, head, body) = ask(address, "GET", path);
        assert!(status == 401 && head.contains("www-authenticate: basic realm="), "{path}: {head} {body}");
        assert_eq!(with(path, "ali:wrong").0, 401);
    }
    assert_eq!((with("/-/healthy", "ali:open sesame").0, with("/nowhere", "ali:open sesame").0), (200, 404));
    server.stop();
}

#[test]
fn metrics_are_packed_for_those_who_ask_for_it() {
    let (address, server, exchange, wakes) = start(Limits::default());
    exchange.set_ready(true);
    let text = "loopscope_loops{comm=\"a\"} 1\n".repeat(1_000);
    for encoding in ["gzip", "identity"] {
        let head = format!("GET /metrics HTTP/1.1\r\nHost: x\r\nAccept-Encoding: {encoding}\r\n\r\n");
        let mut stream = send(address, &head);
        let questions = collect(&exchange, &wakes, 1);
        questions.into_iter().for_each(|question| question.send(Ok(text.clone().into())).unwrap());
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        let end = answer.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
        let head = String::from_utf8(answer[..end].to_vec()).unwrap().to_lowercase();
        let body = &answer[end + 4..];
        assert!(head.contains("vary: accept-encoding"), "{head}");
        assert!(head.contains(&format!("content-length: {}", body.len())), "{head}");
        assert_eq!(head.contains("content-encoding: gzip"), encoding == "gzip", "{head}");
        let mut unpacked = String::new();
        match encoding {
            "gzip" => GzDecoder::new(body).read_to_string(&mut unpacked).unwrap(),
            _ => { body }.read_to_string(&mut unpacked).unwrap(),
        };
        assert_eq!(unpacked, text);
    }
    server.stop();
}
