//! What `loopscope agent` says about passwords, hashes and keys: nothing, whatever it is asked and given.
//!
//! Every byte that it writes is looked at, at each level of the probes' log.
#![cfg(test)]

mod common;

use std::{
    env,
    fs::{self, File},
    io::{Read, Write},
    net::TcpStream,
    path::{Path, PathBuf},
    process::Child,
    sync::Arc,
};

use base64::{Engine, prelude::BASE64_STANDARD};
use common::{PATIENCE, agent, require_bpf, until};
use rustix::process::{Pid, Signal, kill_process};
use tokio_rustls::rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned,
    crypto::ring,
    pki_types::{CertificateDer, ServerName},
};

const PASSWORD: &str = "correct-horse-battery-staple";
const WRONG: &str = "tr0ub4dor-and-3-guesses";

/// A folder with a certificate, its key and the files of an agent; removed at the end.
struct Host {
    folder: PathBuf,
    certificate: CertificateDer<'static>,
    /// Nothing of this may ever be written.
    secrets: Vec<String>,
    hash: String,
}

impl Host {
    fn new() -> Host {
        let folder = env::temp_dir().join(format!("loopscope-secrets-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        let certificate = params.self_signed(&key).unwrap();
        let hash = bcrypt::hash(PASSWORD, 4).unwrap();
        // The hash whole, without its cost, and cut; each line of the key; what a browser sends of a password.
        let mut secrets =
            vec![PASSWORD.to_owned(), WRONG.to_owned(), hash[7..].to_owned(), hash[30..].to_owned()];
        secrets.extend(key.serialize_pem().lines().filter(|line| !line.starts_with('-')).map(str::to_owned));
        secrets.extend([PASSWORD, WRONG].map(|password| BASE64_STANDARD.encode(format!("ali:{password}"))));
        assert!(secrets.iter().all(|secret| secret.len() > 8), "{secrets:?}");
        let host = Host { folder, certificate: certificate.der().clone(), secrets, hash };
        host.file("server.crt", &certificate.pem());
        host.file("server.key", &key.serialize_pem());
        host
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    fn file(&self, name: &str, text: &str) -> String {
        fs::write(self.path(name), text).unwrap();
        self.path(name).to_str().unwrap().to_owned()
    }

    fn web(&self, users: &str) -> String {
        let tls = "tls_server_config:\n  cert_file: server.crt\n  key_file: server.key\n";
        self.file("web.yml", &format!("{tls}{users}"))
    }

    /// What a TLS client gets for a path with a password.
    fn ask(&self, port: u16, path: &str, password: Option<&str>) -> String {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone()).unwrap();
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let builder = builder.with_safe_default_protocol_versions().unwrap().with_root_certificates(roots);
        let name = ServerName::try_from("localhost").unwrap();
        let client = ClientConnection::new(Arc::new(builder.with_no_client_auth()), name).unwrap();
        let socket = TcpStream::connect(("127.0.0.1", port)).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut stream = StreamOwned::new(client, socket);
        let login = password.map_or(String::new(), |password| {
            format!("Authorization: Basic {}\r\n", BASE64_STANDARD.encode(format!("ali:{password}")))
        });
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{login}\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = Vec::new();
        // A server that closes without a goodbye of TLS has answered all the same.
        let _ = stream.read_to_end(&mut answer);
        String::from_utf8(answer).unwrap()
    }

    fn assert_silent(&self, what: &str, text: &str) {
        for secret in &self.secrets {
            assert!(!text.contains(secret.as_str()), "{what} has {secret}:\n{text}");
        }
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// An agent whose stdout and stderr are one file.
struct Agent(Child, PathBuf);

impl Agent {
    fn start(host: &Host, level: &str, web: &str) -> Agent {
        let path = host.path(&format!("said-{level}"));
        let said = File::create(&path).unwrap();
        let own = std::process::id().to_string();
        let mut command = agent(&["agent", "--web.listen-address", "127.0.0.1:0", "--socket", "none"]);
        command.args(["--probe-log", level, "--pid", &own, "--web.config.file", web]);
        let child = command.stdout(said.try_clone().unwrap()).stderr(said).spawn().unwrap();
        let agent = Agent(child, path);
        until("it watches", || agent.said().contains("watching\n"));
        agent
    }

    fn said(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.1).unwrap()).into_owned()
    }

    fn port(&self) -> u16 {
        let said = self.said();
        let url = said.lines().find_map(|line| line.strip_prefix("listening on https://")).unwrap();
        url.strip_suffix("/metrics").unwrap().rsplit(':').next().unwrap().parse().unwrap()
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.0), signal).unwrap();
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // Our own child; an error says that it has ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn no_password_hash_or_key_is_ever_written() {
    if !require_bpf() {
        return;
    }
    let host = Host::new();
    let users = format!("basic_auth_users:\n  ali: {}\n", host.hash);
    for level in ["off", "error", "warn", "info", "debug", "trace"] {
        let mut agent = Agent::start(&host, level, &host.web(&users));
        let port = agent.port();
        let answer = |path: &str, password| host.ask(port, path, password);
        for path in ["/metrics", "/", "/-/healthy", "/nowhere"] {
            for (password, expected) in [(Some(PASSWORD), ""), (Some(WRONG), "401"), (None, "401")] {
                let answer = answer(path, password);
                let status = answer.split(' ').nth(1).unwrap_or_default();
                assert!(
                    status.contains(expected) && (expected == "401") == (status == "401"),
                    "{path}: {answer}"
                );
                host.assert_silent(path, &answer);
            }
        }
        // A login that nothing can be made of, and a request that is none.
        for login in [format!("Basic {PASSWORD}"), format!("Bearer {}", host.hash), "Basic \u{1}".to_owned()]
        {
            let _ = TcpStream::connect(("127.0.0.1", port)).unwrap().write_all(login.as_bytes());
        }
        // Bad configurations, each with the hash on the line that is wrong.
        for (number, bad) in bad_users(&host.hash).iter().enumerate() {
            host.web(bad);
            agent.signal(Signal::HUP);
            until("it says what is wrong", || {
                agent.said().matches("; the old configuration stays").count() > number
            });
        }
        assert!(answer("/metrics", Some(PASSWORD)).contains("loopscope_build_info"), "the old one stays");
        agent.signal(Signal::TERM);
        assert_eq!(agent.0.wait().unwrap().code(), Some(0));
        host.assert_silent(level, &agent.said());
    }
}

/// Users of which none is as it should be.
fn bad_users(hash: &str) -> Vec<String> {
    let short = &hash[..hash.len() - 4];
    vec![
        format!("basic_auth_users:\n  ali: {short}\n"),
        format!("basic_auth_users:\n  ali: {PASSWORD}\n"),
        format!("basic_auth_users: {hash}\n"),
        format!("basic_auth_users: [\"{hash}\"]\n"),
        format!("basic_auth_users:\n  ali: [{hash}]\n"),
        format!("basic_auth_users:\n  ali: {{{hash}: {PASSWORD}}}\n"),
        format!("basic_auth_users:\n  ali: \"{hash}\n"),
        format!("basic_auth_users:\n  ali: {hash}\n  ali: {hash}\n"),
        format!("basic_auth_user:\n  ali: {hash}\n"),
        format!("basic_auth_users:\n  {hash}\n"),
        format!("{hash}\n"),
    ]
}

#[test]
fn a_bad_file_is_named_without_what_is_secret_in_it() {
    let host = Host::new();
    let check = |file: &Path| {
        let mut command = agent(&["agent", "--config.check", "--web.config.file"]);
        let output = command.arg(file).output().unwrap();
        let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        assert_eq!((output.status.code(), said.lines().count()), (Some(2), 1), "{said}");
        host.assert_silent("the message", &said);
        assert!(said.contains("--web.config.file"), "{said}");
    };
    for bad in bad_users(&host.hash) {
        check(Path::new(&host.web(&bad)));
    }
    // A key where a certificate should be, and a key that is cut off.
    let key = fs::read_to_string(host.path("server.key")).unwrap();
    for damaged in [key.as_str(), &key[..key.len() / 2], &key.replace("BEGIN", "BEGAN")] {
        host.file("server.crt", damaged);
        check(Path::new(&host.web("")));
    }
    host.file("server.key", &key[..key.len() / 2]);
    check(Path::new(&host.web("")));
}
