//! `loopscope top` in a real terminal: started in tmux on a live workload, typed at, looked at, stopped and resized.
//!
//! The tmux server is one of its own, by a socket in a folder of its own, and ends with the test.
#![cfg(test)]

mod common;

use std::{
    fs,
    path::PathBuf,
    process::{Command, Output},
    thread,
    time::{Duration, Instant},
};

use rustix::process::Signal;

use common::{Workload, cannot_run, place_in_a_frame, require_bpf, until};

/// A shell in a terminal.
struct Pane {
    folder: PathBuf,
}

impl Pane {
    fn start(name: &str, width: u16, height: u16) -> Pane {
        let folder = std::env::temp_dir().join(format!("loopscope-{name}-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let pane = Pane { folder };
        let (width, height) = (width.to_string(), height.to_string());
        let shell = "exec env PS1='ready> ' bash --norc --noprofile -i";
        pane.tmux(&["-f", "/dev/null", "new-session", "-d", "-x", &width, "-y", &height, shell]);
        until("the shell is ready", || pane.screen().contains("ready>"));
        pane
    }

    fn tmux(&self, args: &[&str]) -> Output {
        let output =
            Command::new("tmux").arg("-S").arg(self.folder.join("socket")).args(args).output().unwrap();
        assert!(output.status.success(), "tmux {args:?}: {}", String::from_utf8_lossy(&output.stderr));
        output
    }

    fn screen(&self) -> String {
        String::from_utf8(self.tmux(&["capture-pane", "-p"]).stdout).unwrap()
    }

    /// Sends keys, by tmux's names.
    fn keys(&self, keys: &[&str]) {
        self.tmux(&[&["send-keys"], keys].concat());
    }

    /// Types letters, as they are.
    fn text(&self, text: &str) {
        self.tmux(&["send-keys", "-l", text]);
    }

    fn run(&self, command: &str) {
        self.text(command);
        self.keys(&["Enter"]);
    }

    /// Waits until all of it is on the screen.
    fn shows(&self, wanted: &[&str]) -> String {
        let mut screen = String::new();
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(20) {
            screen = self.screen();
            if wanted.iter().all(|text| screen.contains(text)) {
                return screen;
            }
            thread::sleep(Duration::from_millis(10));
        }
        panic!("{wanted:?} is not all in\n{screen}");
    }

    /// Whether the alternate screen is shown, as a program shows it that took the terminal over.
    fn is_taken(&self) -> bool {
        self.tmux(&["display-message", "-p", "#{alternate_on}"]).stdout.starts_with(b"1")
    }

    /// The terminal is as the shell needs it.
    fn is_given_back(&self) {
        until("the screen is given back", || !self.is_taken());
        self.run("clear; stty -a | tr ';' ' '; echo e''nd");
        let modes = self.shows(&["\nend"]);
        for mode in [" echo ", " icanon ", " isig ", " icrnl "] {
            assert!(modes.replace('\n', " ").contains(mode), "{mode} in {modes}");
        }
    }
}

impl Drop for Pane {
    fn drop(&mut self) {
        let socket = self.folder.join("socket");
        let _ = Command::new("tmux").arg("-S").arg(socket).arg("kill-server").output();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn require_tmux() -> bool {
    let found = Command::new("tmux").arg("-V").output().is_ok();
    if !found {
        cannot_run("it needs tmux");
    }
    found
}

fn top(args: &str) -> String {
    format!("{} top --socket none {args}", env!("CARGO_BIN_EXE_loopscope"))
}

/// The row of a process, as words.
fn row(screen: &str, name: &str) -> Vec<String> {
    let line = screen.lines().find(|line| line.contains(name)).unwrap_or_default();
    line.split_whitespace().map(str::to_owned).collect()
}

#[test]
fn a_live_workload_is_shown_and_keys_do_what_they_say() {
    if !require_bpf() || !require_tmux() {
        return;
    }
    let workload = Workload::start("--name shown-busy busy 100000 20");
    let pid = workload.pid().to_string();
    let pane = Pane::start("top", 120, 40);
    pane.run(&top(&format!("--pid {pid}")));
    pane.shows(&["loopscope top", "shown-busy", "UTIL", "BUSY p99", "lost 0", "q quit"]);
    assert!(pane.is_taken());
    // 5 ms of waiting and 20 ms of work by turns: 80 %, 40 waits a second, where the machine has nothing else to do.
    until("the figures are those of the workload", || {
        let screen = pane.screen();
        let row = row(&screen, "shown-busy");
        let figure = |i: usize| -> Option<f64> { row.get(i)?.trim_end_matches('%').parse().ok() };
        // PID TID COMM MECH UTIL bar STATE seconds WAITS/s
        let at = row.iter().position(|word| word.ends_with('%')).unwrap_or(0);
        row.first() == Some(&pid)
            && figure(at).is_some_and(|share| (60.0..95.0).contains(&share))
            && figure(at + 4).is_some_and(|waits| (20.0..42.0).contains(&waits))
    });
    pane.text("?");
    pane.shows(&["Keys (Esc closes)", "filter by name"]);
    pane.keys(&["Escape"]);
    until("the help is closed", || !pane.screen().contains("Keys (Esc"));
    pane.text("/nothing-like-it");
    pane.shows(&["No row matches"]);
    pane.keys(&["Escape"]);
    pane.shows(&["shown-busy"]);
    pane.keys(&["Enter"]);
    pane.shows(&["Wait time over the latest", "Busy time over the latest", "time-outs    finite 100%"]);
    pane.keys(&["Escape"]);
    pane.text("f");
    pane.shows(&["FROZEN"]);
    pane.text("fg");
    pane.shows(&["rows processes"]);
    // In a narrow terminal columns go, the most important stay.
    pane.tmux(&["resize-window", "-x", "40", "-y", "12"]);
    let narrow = pane.shows(&["shown-busy", "PID", "UTIL"]);
    assert!(!narrow.contains("BUSY max"), "{narrow}");
    pane.text("q");
    pane.shows(&["ready>"]);
    pane.tmux(&["resize-window", "-x", "120", "-y", "40"]);
    pane.is_given_back();
    workload.kill();
}

#[test]
fn the_terminal_is_given_back_on_a_stop_and_on_a_signal() {
    if !require_bpf() || !require_tmux() {
        return;
    }
    let pane = Pane::start("signals", 100, 30);
    let file = pane.folder.join("pid");
    pane.run(&format!("sh -c 'echo $$ > {}; exec {}'", file.display(), top("")));
    pane.shows(&["loopscope top", "q quit"]);
    let pid = fs::read_to_string(&file).unwrap().trim().parse().unwrap();
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    let signal = |signal| rustix::process::kill_process(pid, signal).unwrap();
    pane.keys(&["C-z"]);
    until("it is stopped", || !pane.is_taken() && pane.screen().contains("Stopped"));
    pane.is_given_back();
    pane.run("fg");
    pane.shows(&["loopscope top", "q quit"]);
    assert!(pane.is_taken());
    // The same by signals from elsewhere, and in the end a deadly one.
    signal(Signal::TSTP);
    until("it is stopped", || !pane.is_taken() && pane.screen().contains("Stopped"));
    pane.run("fg");
    pane.shows(&["loopscope top", "q quit"]);
    signal(Signal::TERM);
    pane.is_given_back();
    pane.run(&top("< /dev/null; echo code $?"));
    pane.shows(&["top needs a terminal", "code 1"]);
}

#[test]
fn a_key_is_answered_at_once_and_each_frame_is_one_update() {
    if !require_bpf() || !require_tmux() {
        return;
    }
    let pane = Pane::start("speed", 100, 30);
    let log = pane.folder.join("output");
    pane.run(&top(""));
    pane.shows(&["loopscope top", "q quit"]);
    pane.tmux(&["pipe-pane", &format!("cat > {}", log.display())]);
    let start = Instant::now();
    let mut took = Vec::new();
    for i in 0..20 {
        let (key, wanted) = if i % 2 == 0 { ("?", true) } else { ("Escape", false) };
        let sent = Instant::now();
        pane.keys(&[key]);
        while pane.screen().contains("Keys (Esc closes)") != wanted {
            assert!(sent.elapsed() < Duration::from_secs(5));
        }
        took.push(sent.elapsed());
    }
    took.sort();
    eprintln!("20 keys in {:?}: {took:?}", start.elapsed());
    // With what two calls of tmux and a debug build take, and 30 ms in which an escape may become a sequence. The
    // slowest ones are the machine's.
    assert!(took[took.len() / 2] < Duration::from_millis(200), "{took:?}");
    let bytes = fs::read(&log).unwrap();
    let count = |needle: &[u8]| bytes.windows(needle.len()).filter(|window| *window == needle).count();
    let (begins, ends) = (count(b"\x1b[?2026h"), count(b"\x1b[?2026l"));
    assert!(begins >= 20 && begins.abs_diff(ends) <= 1, "{begins} begins, {ends} ends");
    assert_eq!(count(b"\x1b[2J"), 0, "a screen that is cleared flickers");
}

#[test]
fn a_recording_is_played_paused_stepped_and_sought() {
    if !require_tmux() {
        return;
    }
    let pane = Pane::start("replay", 120, 30);
    let demo = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/v1.loopscope");
    pane.run(&top(&format!("--replay {demo} --speed 4")));
    pane.shows(&["nginx", "redis-server", "REPLAY 0:0", "x4.0", "Space pause"]);
    pane.keys(&["Space"]);
    pane.shows(&["paused"]);
    let clock = |screen: &str| -> String {
        let from = screen.find("REPLAY ").unwrap();
        screen[from..].split_whitespace().nth(1).unwrap().to_owned()
    };
    let held = clock(&pane.screen());
    thread::sleep(Duration::from_millis(700));
    assert_eq!(clock(&pane.screen()), held);
    pane.text("t");
    pane.run("10s");
    pane.shows(&["REPLAY 0:10"]);
    let there = pane.screen();
    pane.text(".");
    until("the next window is shown", || pane.screen() != there);
    pane.text(",");
    // The same window shows the same rows, whichever way led there.
    let rows = |screen: &str| -> Vec<String> {
        screen.lines().filter(|line| line.contains("nginx")).map(str::to_owned).collect()
    };
    assert_eq!(rows(&there).len(), 2, "{there}");
    until("the window before is shown again", || rows(&pane.screen()) == rows(&there));
    pane.text("t");
    pane.run("never");
    pane.shows(&["a time is wanted"]);
    pane.text("t");
    pane.run("10m");
    pane.shows(&[" end"]);
    pane.keys(&["Left"]);
    until("it is no more at its end", || !pane.screen().contains(" end"));
    pane.text("q");
    pane.is_given_back();
}

#[test]
fn the_mouse_chooses_and_sorts_and_is_given_back() {
    if !require_tmux() {
        return;
    }
    let pane = Pane::start("mouse", 120, 30);
    let demo = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/v1.loopscope");
    let mouse =
        || String::from_utf8(pane.tmux(&["display-message", "-p", "#{mouse_any_flag}"]).stdout).unwrap();
    assert_eq!(mouse().trim(), "0");
    pane.run(&top(&format!("--replay {demo}")));
    pane.keys(&["Space"]);
    let screen = pane.shows(&["nginx", "paused"]);
    assert_eq!(mouse().trim(), "1");
    let head = screen.lines().position(|line| line.contains("BUSY p99")).unwrap();
    let column = screen.lines().nth(head).unwrap().find("PID").unwrap();
    // As a terminal reports it: from 1 on, pressed and let go.
    let click =
        |x: usize, y: usize| pane.text(&format!("\x1b[<0;{};{}M\x1b[<0;{};{}m", x + 1, y + 1, x + 1, y + 1));
    click(column, head);
    pane.shows(&["sort PID"]);
    click(column, head);
    pane.shows(&["sort PID reversed"]);
    click(5, head + 2);
    click(5, head + 2);
    pane.shows(&["I/O model", "executable"]);
    pane.text("q");
    pane.is_given_back();
    assert_eq!(mouse().trim(), "0");
}

/// Takes a terminal over and panics; run by the next test, in a terminal.
#[test]
#[ignore = "it is no claim of its own"]
fn taken_over_and_panicking() {
    let _terminal = loopscope::tui::terminal::Terminal::take().unwrap();
    thread::sleep(Duration::from_secs(1));
    panic!("as a mistake in top would");
}

#[test]
fn a_panic_and_an_error_give_the_terminal_back_and_are_readable() {
    if !require_tmux() {
        return;
    }
    let pane = Pane::start("panic", 100, 30);
    let own = std::env::current_exe().unwrap();
    pane.run(&format!("{} --ignored --exact taken_over_and_panicking --nocapture", own.display()));
    until("the terminal is taken over", || pane.is_taken());
    pane.shows(&["as a mistake in top would", "ready>"]);
    pane.is_given_back();
    // A recording that is damaged later on: an error while the screen is top's.
    let demo = fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/v1.loopscope")).unwrap();
    let mut damaged = demo.clone();
    damaged[place_in_a_frame(&demo)] ^= 0x55;
    let file = pane.folder.join("damaged.loopscope");
    fs::write(&file, damaged).unwrap();
    pane.run(&top(&format!("--replay {} --speed 64; echo code $?", file.display())));
    pane.shows(&["is damaged at byte", "code "]);
    pane.is_given_back();
}
