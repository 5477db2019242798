//! `loopscope agent` and its files: configuration, --web.config.file, --once; and what systemd is told.
#![cfg(test)]

mod common;

use std::{
    env, fs,
    io::{BufRead, BufReader},
    os::unix::net::UnixDatagram,
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use common::{
    PATIENCE, Workload, agent, cannot_run,
    compare::{count, list},
    exporter::Agent,
    folder::Folder,
    require_bpf,
};
use rustix::process::{Pid, Signal, kill_process};

/// Exit code and stderr.
fn run(args: &[&str]) -> (Option<i32>, String) {
    let output = agent(&["agent"]).args(args).stdout(Stdio::null()).output().unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn a_configuration_is_checked_without_starting_anything() {
    let folder = Folder::new("check");
    let good = folder.write("good.toml", "max-groups = 5\ncomm = [\"nginx*\"]\ngroup-by = \"unit\"\n");
    assert_eq!(
        run(&["--config", &good, "--config.check"]),
        (Some(0), "the configuration is good\n".to_owned())
    );
    let bad = folder.write("bad.toml", "# one\nmax-groups = 5\ngroup_by = \"unit\"\n");
    for more in [&["--config.check"][..], &[]] {
        let (code, said) = run(&[&["--config", &bad], more].concat());
        assert_eq!((code, said.lines().count()), (Some(2), 1), "{said}");
        assert!(said.contains("bad.toml:3: ") && said.contains("--group-by"), "{said}");
    }
    let (code, said) = run(&["--config", "/no/such.toml"]);
    assert!(code == Some(2) && said.contains("/no/such.toml"), "{said}");
    let web = folder.write("web.yml", "basic_auth_users:\n  ali: nothing\n");
    let names_it = folder.write("web.toml", format!("web.config.file = \"{web}\"\n"));
    let (code, said) = run(&["--config", &names_it, "--config.check"]);
    assert!(
        code == Some(2) && said.contains("web.yml: basic_auth_users") && !said.contains("nothing"),
        "{said}"
    );
}

#[test]
fn what_promtool_says_of_a_web_configuration_is_what_we_say() {
    let path = env::var_os("PATH").unwrap_or_default();
    let Some(promtool) = env::split_paths(&path).map(|dir| dir.join("promtool")).find(|file| file.is_file())
    else {
        return cannot_run("promtool is not in PATH (Debian package prometheus)");
    };
    let folder = Folder::new("promtool");
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate =
        rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap().self_signed(&key).unwrap();
    folder.write("a.crt", certificate.pem());
    folder.write("a.key", key.serialize_pem());
    let hash = bcrypt::hash("open sesame", 4).unwrap();
    let tls = "tls_server_config:\n  cert_file: a.crt\n  key_file: a.key\n";
    let users = format!("basic_auth_users:\n  ali: {hash}\n");
    let ca = "  client_ca_file: a.crt\n  client_auth_type: RequireAndVerifyClientCert\n";
    for (text, is_good) in [
        ("", true),
        (tls, true),
        (users.as_str(), true),
        (&format!("{tls}{ca}  min_version: TLS13\n{users}"), true),
        (&format!("{tls}tls_server_confg: {{}}\n"), false),
        (&format!("{tls}  cert_fil: a\n"), false),
        ("tls_server_config:\n  cert_file: none.crt\n  key_file: a.key\n", false),
        ("tls_server_config:\n  cert_file: a.crt\n  key_file: a.crt\n", false),
        (&format!("{tls}  client_ca_file: a.crt\n"), false),
        (&format!("{tls}  min_version: TLS9\n"), false),
        ("basic_auth_users: [ali]\n", false),
    ] {
        let file = folder.write("web.yml", text);
        let theirs = Command::new(&promtool).args(["check", "web-config", &file]).output().unwrap();
        assert_eq!(theirs.status.success(), is_good, "promtool on {text:?}: {theirs:?}");
        let (code, said) = run(&["--web.config.file", &file, "--config.check"]);
        assert_eq!(code, Some(if is_good { 0 } else { 2 }), "{text:?}: {said}");
        assert_eq!(said.lines().count(), 1, "{said}");
    }
}

#[test]
fn a_signal_reads_the_configuration_again_and_a_bad_one_changes_nothing() {
    if !require_bpf() {
        return;
    }
    let folder = Folder::new("reload");
    let file = folder.write("agent.toml", "allow-group = \"none\"\n");
    let agent = Agent::start(&["--config", &file, "--max-groups", "50"]);
    let groups = |agent: &Agent| {
        thread::sleep(Duration::from_millis(150));
        let series = agent.scrape();
        (series.0["loopscope_groups"], series.0["loopscope_groups_limit"])
    };
    assert_eq!(groups(&agent), (0.0, 50.0));
    folder.write("agent.toml", "allow-group = \"none\"\nmax-groups = \"many\"\n");
    agent.signal(Signal::HUP);
    let said = agent.line();
    assert!(said.contains("agent.toml:2: ") && said.ends_with("; the old configuration stays"), "{said}");
    assert_eq!(groups(&agent), (0.0, 50.0));
    folder.write("agent.toml", "max-groups = 7\ngroup-by = \"pid\"\n");
    agent.signal(Signal::HUP);
    let said = agent.line();
    assert!(said.contains("note: group-by cannot change while the agent runs"), "{said}");
    assert!(agent.line().contains("the configuration was read again"));
    // The agent's own loop is a group; the command line's number wins.
    let (shown, limit) = groups(&agent);
    assert!(shown >= 1.0 && limit == 50.0, "{shown} of {limit}");
    assert_eq!(agent.end(Signal::TERM).code(), Some(0));
}

#[test]
fn systemd_is_told_when_it_is_ready_alive_reloading_and_at_its_end() {
    if !require_bpf() {
        return;
    }
    let folder = Folder::new("notify");
    let path = folder.path().join("socket");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let agent =
        Agent::start_with(&[], &[("NOTIFY_SOCKET", path.to_str().unwrap()), ("WATCHDOG_USEC", "300000")]);
    let next = || {
        let mut buffer = [0; 256];
        let length = socket.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    };
    assert_eq!(next(), "READY=1\n");
    assert_eq!((next(), next()), ("WATCHDOG=1\n".to_owned(), "WATCHDOG=1\n".to_owned()));
    agent.signal(Signal::HUP);
    let mut told = std::iter::repeat_with(next).filter(|said| said != "WATCHDOG=1\n");
    let reloading = told.next().unwrap();
    assert!(reloading.starts_with("RELOADING=1\nMONOTONIC_USEC="), "{reloading}");
    assert_eq!(told.next().unwrap(), "READY=1\n");
    assert!(agent.line().contains("read again"));
    agent.signal(Signal::TERM);
    assert_eq!(told.next().unwrap(), "STOPPING=1\n");
    assert_eq!(agent.end(Signal::TERM).code(), Some(0));
}

#[test]
fn once_writes_a_whole_file_and_ends() {
    let folder = Folder::new("once");
    let (code, said) = run(&["--once", folder.path().join("none/a.prom").to_str().unwrap()]);
    assert_eq!((code, said.lines().count()), (Some(2), 1), "{said}");
    if !require_bpf() {
        return;
    }
    let file = folder.write("loopscope.prom", "old\n");
    let mut command = agent(&["agent", "--once", &file, "--duration", "1h", "--comm", "once-load"]);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
    assert!(lines.any(|line| line == "watching"));
    let workload = Workload::start("once-load= results 40");
    let done = workload.said();
    workload.finish();
    assert_eq!(fs::read_to_string(&file).unwrap(), "old\n", "it is not touched before the end");
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    assert_eq!(lines.collect::<Vec<_>>(), Vec::<String>::new());
    assert_eq!(child.wait().unwrap().code(), Some(0));
    let text = fs::read_to_string(&file).unwrap();
    let events: u64 = list(&done["rows"]).iter().map(|row| count(&row["events"])).sum();
    let line = format!("\nloopscope_events_total{{comm=\"once-load\",mechanism=\"epoll\"}} {events}\n");
    assert!(text.contains(&line), "{line}{text}");
    assert!(text.ends_with('\n') && !text.contains("process_"), "node_exporter has process_* of its own");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing else is left");
}
