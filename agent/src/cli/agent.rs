//! `loopscope agent`: watches until it is told to end, and serves what it sees as metrics.
//!
//! This thread owns the probes, the model and the sums; the server's asks it. It reads the probes when it is asked, and
//! else every few seconds. Nothing that a client does may end it, and nothing that is wrong with a new configuration.

mod once;
mod service;
mod serving;

use std::{
    ffi::OsString,
    fmt,
    io::{Write, stderr},
    sync::mpsc,
    time::{Duration, SystemTime},
};

use anyhow::Context;

use super::{AgentArgs, Failure, config, report, select::Selection};
use crate::{
    confine::{self, Confined, Confinement},
    export::{
        exchange,
        server::{self, Limits, Server},
        web::Web,
    },
    feed,
    reactor::{Reactor, Watch},
};
use once::Target;
use serving::Agent;

/// How long `--once` watches where nothing else is asked for.
const ONCE: Duration = Duration::from_secs(10);

/// An option's name, and its value in a form that can be compared.
type Fixed = (&'static str, fn(&AgentArgs) -> String);

/// What a running agent keeps until it is started anew.
const FIXED: [Fixed; 12] = [
    ("native-histograms", |args| args.native_histograms.to_string()),
    ("socket", |args| format!("{:?}", args.socket)),
    ("listen", |args| format!("{:?}", args.listen)),
    ("web.max-requests", |args| args.max_requests.to_string()),
    ("group-by", |args| format!("{:?}", args.series.group_by)),
    ("max-label-length", |args| args.series.max_label_length.to_string()),
    ("pid", |args| format!("{:?}", args.filters.pids)),
    ("cgroup", |args| format!("{:?}", args.filters.cgroups)),
    ("backend or btf", |args| format!("{:?} {:?}", args.kernel.backend, args.kernel.btf)),
    ("no-confine", |args| args.kernel.no_confine.to_string()),
    ("probe-log", |args| format!("{:?}", args.kernel.probe_log)),
    ("probe-stats", |args| args.kernel.probe_stats.to_string()),
];

/// Runs the command that `argv` asks for, the program's name first.
///
/// # Errors
/// Bad filters or a bad configuration (2); an address that cannot be had, not allowed, or refused by the kernel (1).
pub fn run(argv: &[OsString]) -> Result<(), Failure> {
    let started = SystemTime::now();
    let args = config::agent(argv)?;
    let grouping = args.series.grouping()?;
    let web = web(&args)?;
    if args.config_check {
        args.filters.comm_matcher()?;
        say(format_args!("the configuration is good"));
        return Ok(());
    }
    if args.native_histograms && !cfg!(feature = "native-histograms") {
        return Err(Failure::cannot(
            "--native-histograms: not in this build; cargo install --features native-histograms has it",
        ));
    }
    let selection = Selection::new(&args.filters)?;
    let target = args.once.as_deref().map(Target::new).transpose()?;
    let options = report::options(&args.kernel, &selection.watched)?;
    let mut reactor = Reactor::new()?;
    reactor.take_hangups()?;
    // Before files can be made no more; who connects is served when there is something to say.
    let views = if target.is_none() { views(&args, &reactor) } else { None };
    // Before any thread is started: threads keep the view of files with which they are.
    let plan = target.as_ref().map(Target::plan).unwrap_or_default();
    let confinement = (!args.kernel.no_confine).then(|| Confinement::begin(plan));
    let attach = || {
        let watch = Watch::start(&options, &reactor).map_err(|error| report::refused(&args.kernel, error))?;
        report::missing(watch.probes()).map_or(Ok(watch), Err)
    };
    if let Some(target) = target {
        let watch = attach()?;
        let confined = confinement.map_or_else(Confined::unwanted, |begun| begun.complete(None));
        let mut agent = Agent::new(watch, selection, grouping, started, confined);
        agent.announce();
        agent.watch_for(&reactor, args.duration.unwrap_or(ONCE))?;
        // node_exporter has process_* of its own, and refuses a second one.
        return target.write(&agent.text(|metric| metric.name.starts_with("loopscope_"))?);
    }
    let (client, exchange) = exchange({
        let waker = reactor.waker();
        move || waker.wake()
    });
    // Before the probes are attached, so that whoever asks meanwhile hears that it is not ready.
    let (server, entered) = listen(&args, client, web)?;
    let watch = attach()?;
    let confined = confinement.map_or_else(Confined::unwanted, |begun| begun.complete(entered.recv().ok()));
    let mut agent = Agent::new(watch, selection, grouping, started, confined);
    agent.sample()?;
    if let Some(views) = views {
        agent.feed(views);
    }
    exchange.set_ready(true);
    agent.announce();
    service::ready();
    let mut current = args;
    let ended = agent.serve(&reactor, &exchange, |agent| {
        service::reloading();
        match reload(argv, &current, agent, &server) {
            Ok(args) => current = args,
            Err(failure) => say(format_args!("loopscope: error: {failure}; the old configuration stays")),
        }
        service::ready();
    });
    service::stopping();
    // Questions that are left are dropped with it, and so answered.
    drop(exchange);
    server.stop();
    ended
}

/// The socket for views on this host; without it they attach probes of their own. The confined agent cannot remove it at its
/// end: the next one replaces it.
fn views(args: &AgentArgs, reactor: &Reactor) -> Option<feed::Server> {
    let path = args.socket.0.as_ref()?;
    let refused = |why: anyhow::Error| {
        say(format_args!(
            "loopscope: note: no socket for top and report at {}: {why:#}; they attach probes of their own",
            path.display()
        ));
    };
    feed::Server::bind(path, reactor).map_err(refused).ok()
}

/// Serves on every address, and says on which. What became of the confinement of the server's thread comes by the channel.
fn listen(
    args: &AgentArgs,
    client: crate::export::Client,
    web: Web,
) -> Result<(Server, mpsc::Receiver<Result<(), String>>), Failure> {
    let limits =
        Limits { scrapes: args.max_requests.into(), native: args.native_histograms, ..Limits::default() };
    let listeners = server::bind(&args.listen)?;
    let scheme = if web.tls.is_some() { "https" } else { "http" };
    for listener in &listeners {
        let address = listener.local_addr().context("a socket has no address")?;
        say(format_args!("listening on {scheme}://{address}/metrics"));
    }
    let (enter, entered) = mpsc::channel();
    let is_confined = !args.kernel.no_confine;
    let begin = move || {
        if is_confined {
            // Nobody listens where the start failed meanwhile.
            let _ = enter.send(confine::server());
        }
    };
    Ok((Server::start(listeners, client, limits, web, begin)?, entered))
}

/// Reads the configuration anew and applies all of it that can be applied, or nothing.
fn reload(
    argv: &[OsString],
    old: &AgentArgs,
    agent: &mut Agent,
    server: &Server,
) -> Result<AgentArgs, Failure> {
    let new = config::agent(argv)?;
    let (grouping, comms, web) = (new.series.grouping()?, new.filters.comm_matcher()?, web(&new)?);
    agent.groups.regroup(grouping);
    agent.selection.set_comms(comms);
    server.reload(web);
    for (name, value) in FIXED {
        if value(old) != value(&new) {
            say(format_args!("loopscope: note: {name} cannot change while the agent runs; start it anew"));
        }
    }
    say(format_args!("loopscope: note: the configuration was read again"));
    Ok(new)
}

/// Certificates and users.
fn web(args: &AgentArgs) -> Result<Web, Failure> {
    let read = |path| Web::read(path).map_err(|why| Failure::bad_input(format!("--web.config.file {why}")));
    args.web_config.as_deref().map_or_else(|| Ok(Web::default()), read)
}

/// A line on stderr. Where nobody reads it any more, the agent goes on.
fn say(line: fmt::Arguments<'_>) {
    let _ = writeln!(stderr(), "{line}");
}
