//! `cargo xtask dashboards --verify`: dashboards and rules seen working, with a real agent, real load and Prometheus.
//!
//! Everything runs on loopback, in a folder of its own that is gone afterwards, and ends with the command.

mod evaluate;
mod load;
mod prometheus;

use std::{
    env, fs,
    path::Path,
    process::Command,
    thread,
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context, Result, bail};
use serde_json::json;

use crate::{
    bench::{
        servers::Folder,
        started::{Output, Started},
    },
    process,
};
use load::Load;
use prometheus::{Prometheus, SCRAPE_SECONDS};

/// Where the series are left for `dashboards/render`.
const SHOWN: &str = "target/dashboards/shown.json";

/// Runs it, with the agent of that profile, for so many seconds of load.
///
/// # Errors
/// Something cannot be started; an expression fails, or has no data where it should.
pub fn run(root: &Path, release: bool, seconds: u64) -> Result<()> {
    if !process::is_root() {
        bail!("not root: the agent loads eBPF programs; run it with sudo");
    }
    load::install()?;
    let agent = build(root, release)?;
    let folder = Folder::new()?;
    println!("starting nginx, node, memcached, and servers by poll, select and epoll, with their load");
    let load = Load::start(root, &folder.0)?;
    let (agent, address) = start_agent(&agent)?;
    println!("the agent watches, on {address}; starting Prometheus");
    let server = Prometheus::start(root, &folder.0, &address)?;
    server.wait_for_up()?;
    let start = now()?;
    watch(&server, seconds)?;
    // The first rates need a few scrapes.
    let (start, end) = (start + 6.0, now()?);
    let found = evaluate::all(&server, start, end)?;
    drop((load, agent, server));
    let shown = json!({ "start": start, "end": end, "step": SCRAPE_SECONDS, "series": found.shown });
    let file = root.join(SHOWN);
    fs::create_dir_all(file.parent().unwrap_or(root)).context("make target/dashboards")?;
    fs::write(&file, shown.to_string()).with_context(|| format!("write {}", file.display()))?;
    found.faults.iter().for_each(|fault| println!("  FAULT: {fault}"));
    println!(
        "{} evaluations with data, {} of single values that have no such series, {} of idle ones, {} expressions whose metrics the agent \
         does not export yet, {} faults; series in {SHOWN}",
        found.with_data,
        found.nothing,
        found.idle,
        found.coming,
        found.faults.len()
    );
    if !found.faults.is_empty() {
        bail!("{} expressions fail or have no data", found.faults.len());
    }
    Ok(())
}

/// Builds the agent; its path.
fn build(root: &Path, release: bool) -> Result<String> {
    let mut cargo = Command::new("cargo");
    cargo.current_dir(root).args([
        "build",
        "--quiet",
        "--locked",
        "--package",
        "loopscope",
        "--bin",
        "loopscope",
    ]);
    if release {
        cargo.arg("--release");
    }
    process::run(&mut cargo)?;
    let profile = if release { "release" } else { "debug" };
    // Ours is in the same target folder, whatever it is called: TARGET/debug/xtask.
    let own = env::current_exe().context("find the target folder")?;
    let target = own.parent().and_then(Path::parent).context("find the target folder")?;
    Ok(target.join(profile).join("loopscope").to_string_lossy().into_owned())
}

/// An agent on a free port, and its address.
fn start_agent(program: &str) -> Result<(Started, String)> {
    // What else runs on this machine must neither help nor spoil a panel.
    let watched = ["nginx", "node", "memcached", "wrk", "*-server", "set-clients", "prometheus", "loopscope"];
    let filters = watched.iter().flat_map(|comm| ["--comm", *comm]);
    let arguments: Vec<&str> = ["agent", "--listen", "127.0.0.1:0", "--socket", "none", "--probe-stats"]
        .into_iter()
        .chain(filters)
        .collect();
    let mut agent = Started::new(program, &arguments)?;
    let said = agent.wait_for(Output::Err, "listening on http://")?;
    let address = said.split("http://").nth(1).and_then(|rest| rest.split('/').next());
    let address = address.with_context(|| format!("the agent said {said}"))?.to_owned();
    agent.wait_for(Output::Err, "watching")?;
    Ok((agent, address))
}

fn now() -> Result<f64> {
    Ok(SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .context("the clock is before 1970")?
        .as_secs_f64())
}

/// Lets the time pass, and shows that something happens.
fn watch(server: &Prometheus, seconds: u64) -> Result<()> {
    let end = Instant::now() + Duration::from_secs(seconds);
    while Instant::now() < end {
        thread::sleep(Duration::from_secs(5).min(end.saturating_duration_since(Instant::now())));
        let number = |expression: &str| -> Result<String> {
            let series = server.instant(expression)?;
            let value =
                series.first().and_then(|series| series.pointer("/value/1")?.as_str()?.parse::<f64>().ok());
            Ok(value.map_or("-".to_owned(), |value| format!("{value:.0}")))
        };
        println!(
            "  {:>3} s left: {} loops, {} waits a second, {} samples a scrape",
            end.saturating_duration_since(Instant::now()).as_secs(),
            number("sum(loopscope_loops)")?,
            number("sum(rate(loopscope_waits_total[5s]))")?,
            number("sum(scrape_samples_scraped)")?
        );
    }
    Ok(())
}
