//! `loopscope inspect PID`: watches for a while, then prints the epoll instances of a process, and what they watch.
//!
//! The whole host is watched, since others may hold and wait on the same instances; which entries deliver events is
//! counted for this process's instances alone. Where an agent runs, loops and sets are its own; what descriptors are, /proc says
//! to this process, and what each delivered nobody counts.

use std::{
    fs,
    path::Path,
    process::ExitCode,
    time::{Duration, SystemTime},
};

use super::{Failure, Filters, InspectArgs, output, readings, record, report, select::Selection};
use crate::{
    feed::Remote,
    identity::Processes,
    inspect::{
        self, Inspection,
        build::{self, Descriptors, Links},
        document::{FdRow, ProcessRow},
    },
    kernel::{Options, Watched},
    model::{
        InstanceWindow, Window,
        hot::{Entries, Hot},
    },
    reactor::{Reactor, Watch},
    report::{
        Format,
        build::{Aside, Origin, report as document},
    },
    store::Step,
};

/// How long to watch where nothing else is asked for.
const DURATION: Duration = Duration::from_secs(5);
/// Watched descriptors in a table where nothing else is asked for.
const TOP: u32 = 20;

/// Runs the command.
///
/// # Errors
/// No such process (2); not allowed, refused by the kernel, or the output failed (1).
pub fn run(args: &InspectArgs) -> Result<ExitCode, Failure> {
    if let Some(path) = &args.replay {
        return replay(args, path);
    }
    check(args.pid)?;
    let exe = Processes::default().get(args.pid).exe.clone();
    let before = build::process(args.pid, exe);
    if let Some(remote) = readings::of_agent(&args.readings, &args.kernel) {
        return of_agent(args, remote, before);
    }
    let options = Options { hot: Some(args.pid), ..report::options(&args.kernel, &Watched::default())? };
    let reactor = Reactor::new()?;
    let mut watch = report::attach(&reactor, &args.kernel, &options, None)?;
    let started_at = SystemTime::now();
    let mut notes = Vec::new();
    let kept = watch.keep_interest();
    let links = build::links(args.pid);
    report::wait(&reactor, &mut watch, args.duration.unwrap_or(DURATION))?;
    // The sets come before the last sample, so that what was added since the first is counted.
    for result in [kept, watch.read_interest().map(drop)] {
        if let (Err(error), true) = (result, notes.is_empty()) {
            notes.push(format!("what instances watch is not known: {error:#}"));
        }
    }
    watch.sample()?;
    let seen = Seen { process: before, links, notes, started_at };
    let inspection = seen.inspection(&mut watch, most(args));
    output::write(|out| inspect::write(&inspection, args.format, report::terminal_width(), out))?;
    Ok(ExitCode::SUCCESS)
}

/// What a recording does not have, and an inspection of a live process does.
const NOT_RECORDED: &str = "a recording has no descriptors: what they are, their limits and which of them delivered the \
                            events is not known";

/// What the agent's probes do not count.
const NOT_COUNTED: &str = "which descriptors delivered the events is not counted: the agent's probes do not read events back; \
                           --standalone attaches some that do. What descriptors are comes from /proc";

/// The process, from the readings of a running agent and /proc.
fn of_agent(args: &InspectArgs, mut remote: Remote, process: ProcessRow) -> Result<ExitCode, Failure> {
    let links = build::links(args.pid);
    report::follow(&mut remote, args.duration.unwrap_or(DURATION))?;
    let window = remote.follower.window();
    let (mut origin, aside) = readings::aside(&remote);
    origin.notes.push(NOT_COUNTED.to_owned());
    let model = &remote.follower.model;
    let seen = Seen { process, links, notes: Vec::new(), started_at: remote.follower.started_at };
    let inspection =
        seen.document(window, |instance| model.entries(instance, None), (origin, aside), most(args));
    output::write(|out| inspect::write(&inspection, args.format, report::terminal_width(), out))?;
    Ok(ExitCode::SUCCESS)
}

/// What a recording has of a process: its loops over the whole time, and the interest sets that were read last.
fn replay(args: &InspectArgs, path: &Path) -> Result<ExitCode, Failure> {
    let mut replay = record::open(path)?;
    let selection = Selection::of_recording(&Filters::default(), &replay.head().filtered)?;
    while replay.step().map_err(|error| record::unreadable(path, &error))? != Step::End {}
    let mut window = replay.window();
    selection.apply(&mut window);
    let watches = build::watches(&window.instances);
    build::only(&mut window, args.pid);
    if window.loops.is_empty() && window.instances.is_empty() {
        let file = path.display();
        return Err(Failure::bad_input(format!(
            "{}: no such process in {file}; `loopscope report --replay {file}` shows which there are",
            args.pid
        )));
    }
    let mut fds: Vec<FdRow> = Vec::new();
    for instance in &window.instances {
        let entries = replay.entries(instance);
        fds.extend(Descriptors::recorded(args.pid).rows(instance, &entries).0);
    }
    fds.sort_by(FdRow::by_events);
    let fds_left_out = cut(&mut fds, most(args));
    let users = build::users(&window.instances, &watches, None);
    let mut origin = replay.origin();
    origin.notes.push(NOT_RECORDED.to_owned());
    let aside = Aside {
        missed: replay.missed(),
        damaged: replay.damaged(),
        interest: replay.no_interest(),
        costs: replay.costs(),
    };
    let process = build::recorded_process(&window, args.pid);
    let report = document(&window, &origin, aside, replay.started_at());
    let inspection =
        Inspection { report, process, users, delivered: Vec::new(), fds, fds_left_out, calls: Vec::new() };
    output::write(|out| inspect::write(&inspection, args.format, report::terminal_width(), out))?;
    Ok(ExitCode::SUCCESS)
}

/// How many rows of descriptors are shown at most.
fn most(args: &InspectArgs) -> usize {
    let top = args.top.or((args.format == Format::Table).then_some(TOP));
    top.map_or(usize::MAX, |top| usize::try_from(top).unwrap_or(usize::MAX))
}

/// Leaves the first `most` rows; how many more there were.
fn cut(fds: &mut Vec<FdRow>, most: usize) -> u64 {
    let total = fds.len();
    fds.truncate(most);
    (total - fds.len()) as u64
}

/// Whether that is a process.
fn check(pid: u32) -> Result<(), Failure> {
    let status = fs::read(format!("/proc/{pid}/status")).map_err(|_| {
        Failure::bad_input(format!("{pid}: no such process; `loopscope report` shows which there are"))
    })?;
    let status = String::from_utf8_lossy(&status);
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    match field("Tgid:") {
        Some(process) if process != pid.to_string() => Err(Failure::bad_input(format!(
            "{pid}: a thread of process {process}; try `loopscope inspect {process}`"
        ))),
        _ => Ok(()),
    }
}

/// What was noted before and during the window.
struct Seen {
    process: ProcessRow,
    links: Links,
    notes: Vec<String>,
    started_at: SystemTime,
}

impl Seen {
    /// Puts the document together, with at most `most` watched descriptors.
    fn inspection(mut self, watch: &mut Watch, most: usize) -> Inspection {
        let missed = watch.missed();
        // At once after the last sample: loops go on, and what they do from here on is in no other figure.
        let hot = self.hot(watch);
        let window = watch.window();
        let origin = report::origin(watch.probes(), std::mem::take(&mut self.notes));
        // Looking counts up makes the kernel skip runs of probes, but not in the window.
        let aside = Aside { missed, damaged: watch.damaged(), interest: None, costs: watch.costs() };
        self.document(window, |instance| watch.entries(instance, hot.as_ref()), (origin, aside), most)
    }

    /// The same of any window.
    fn document(
        self,
        mut window: Window,
        entries: impl Fn(&InstanceWindow) -> Entries,
        (mut origin, aside): (Origin, Aside),
        most: usize,
    ) -> Inspection {
        let pid = self.process.pid;
        let watches = build::watches(&window.instances);
        build::only(&mut window, pid);
        let mut descriptors = Descriptors::new(pid, self.links);
        let (mut fds, mut delivered) = (Vec::new(), Vec::new());
        for instance in &window.instances {
            let (rows, row) = descriptors.rows(instance, &entries(instance));
            fds.extend(rows);
            delivered.extend(row);
        }
        fds.sort_by(FdRow::by_events);
        let fds_left_out = cut(&mut fds, most);
        let calls = descriptors.calls(&window, most);
        origin.notes.extend(descriptors.lacks());
        let report = document(&window, &origin, aside, self.started_at);
        let now = build::process(pid, self.process.exe.clone());
        let process = ProcessRow { comm: now.comm.clone().or(self.process.comm), ..now };
        let users = build::users(&window.instances, &watches, build::max_user_watches());
        Inspection { report, process, users, delivered, fds, fds_left_out, calls }
    }

    /// Which entries delivered the events.
    fn hot(&mut self, watch: &Watch) -> Option<Hot> {
        watch.read_hot().map_err(|error| self.notes.push(format!("{error:#}"))).ok()
    }
}
