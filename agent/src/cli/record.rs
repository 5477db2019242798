//! `loopscope record`: keeps everything that the probes tell in a file. And what the views need to replay one.

use std::{path::Path, time::Duration};

use super::{Failure, RecordArgs, report, select::Selection};
use crate::{
    reactor::{Event, Reactor, Watch},
    report::units,
    store::{Damage, Limits, Recorder, Replay},
};

/// How often everything is read where nothing else is asked for.
const TICK: Duration = Duration::from_secs(1);

/// How often interest sets are read: those of 2,000 loops are some 80 KB in the file each time.
const INTEREST: Duration = Duration::from_secs(30);

/// Runs the command.
///
/// # Errors
/// Bad filters, or options that do not go together (2); not allowed, refused by the kernel, or the file cannot be
/// written (1).
pub fn run(args: &RecordArgs) -> Result<(), Failure> {
    if args.redact && !args.filters.comms.is_empty() {
        return Err(Failure::bad_input(
            "--redact leaves no names for --comm to match; choose by --pid or --cgroup",
        ));
    }
    let selection = Selection::new(&args.filters)?;
    let limits = Limits { bytes: args.max_size, redact: args.redact };
    let recorder = create(&args.output, limits, &selection)?;
    let reactor = Reactor::new()?;
    let mut watch = report::start(&reactor, &args.kernel, &selection, Some(recorder))?;
    eprintln!("watching");
    // Where they cannot be read the recording says so.
    watch.refresh_interest_after(INTEREST);
    reactor.tick_every(args.interval.unwrap_or(TICK))?;
    if let Some(duration) = args.duration {
        reactor.deadline_after(duration)?;
    }
    'watching: loop {
        for event in reactor.wait()? {
            match event {
                Event::Deadline | Event::Signal { .. } => break 'watching,
                Event::Tick => {
                    watch.sample()?;
                    watch.refresh_interest_after(INTEREST);
                }
                other => report::tend(&mut watch, other)?,
            }
            // A full disk does not get emptier by watching on.
            if watch.recorder().as_ref().is_some_and(|recorder| recorder.error().is_some()) {
                break 'watching;
            }
        }
    }
    watch.sample()?;
    let _ = watch.read_interest();
    let bytes = finish(&mut watch)?;
    eprintln!("loopscope: {} bytes in {}", units::count(bytes), args.output.display());
    Ok(())
}

/// Makes the file of a recording.
///
/// # Errors
/// It cannot be made.
pub fn create(path: &Path, limits: Limits, selection: &Selection) -> Result<Recorder, Failure> {
    Recorder::create(path, limits, selection.filtered())
        .map_err(|error| Failure::cannot(format!("cannot write {}: {error}", path.display())))
}

/// Ends the recording of these probes, if there is one, and says how long its file is.
///
/// # Errors
/// It could not be written to the end.
pub fn finish(watch: &mut Watch) -> Result<u64, Failure> {
    watch.recorder().take().map_or(Ok(0), Recorder::finish).map_err(Failure::cannot)
}

/// Opens a recording. One that was cut off is replayed as far as it goes, and said.
///
/// # Errors
/// [`Failure::bad_input`] for what is none.
pub fn open(path: &Path) -> Result<Replay, Failure> {
    let replay = Replay::open(path).map_err(|error| unreadable(path, &error))?;
    if !replay.is_whole() {
        eprintln!(
            "loopscope: note: {} was cut off; it is replayed as far as it goes",
            crate::report::text::one_line(&path.display().to_string())
        );
    }
    Ok(replay)
}

/// The failure that a file cannot be replayed: what is wrong with it, rather than which field of it.
pub fn unreadable(path: &Path, error: &anyhow::Error) -> Failure {
    let damage = error.chain().find_map(|cause| cause.downcast_ref::<Damage>());
    let damage = damage.or_else(|| error.downcast_ref::<Damage>());
    let why = damage.map_or_else(|| format!("{error:#}"), ToString::to_string);
    Failure::bad_input(format!("{}: {why}", path.display()))
}
