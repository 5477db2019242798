//! The agent's page in a browser: what it shows, sorting, keys, dark mode, and that it comes back when the agent does.
//!
//! Chromium is driven by its own protocol over a pipe (`--remote-debugging-pipe`), so nothing else has to be there.
//! Pictures for a look are left in target/page.
#![cfg(test)]

mod common;

use std::{
    collections::HashSet,
    env, fs,
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{self, Receiver},
    },
    thread,
    time::{Duration, Instant},
};

use common::{PATIENCE, agent, cannot_run, require_bpf, until};
use rustix::{event::epoll, time::Timespec};
use serde_json::{Value, json};

/// Names of threads: what a page must not take for markup among them.
const NAMES: [&str; 4] = ["steady", "<img src=x>", "\"><b>hot</b>", "'&amp;{{rows}}"];

/// A browser with one page.
struct Browser {
    child: Child,
    input: ChildStdin,
    messages: Receiver<Value>,
    /// Messages that were no answers.
    events: Vec<Value>,
    session: String,
    last: u64,
    folder: PathBuf,
}

impl Browser {
    fn start(program: &Path) -> Browser {
        let folder = env::temp_dir().join(format!("loopscope-browser-{}", std::process::id()));
        let options = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--window-size=1280,720",
            "--remote-debugging-pipe",
        ];
        // The protocol is spoken on descriptors 3 and 4.
        let mut command = Command::new("sh");
        command
            .args(["-c", "exec \"$@\" 3<&0 4>&1 </dev/null >/dev/null 2>&1", "sh"])
            .arg(program)
            .args(options);
        command.arg(format!("--user-data-dir={}", folder.display())).arg("about:blank");
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (sender, messages) = mpsc::channel();
        let output = BufReader::new(child.stdout.take().unwrap());
        thread::spawn(move || {
            let messages = output.split(0).map_while(Result::ok);
            messages
                .filter_map(|text| serde_json::from_slice(&text).ok())
                .try_for_each(|message| sender.send(message))
        });
        let input = child.stdin.take().unwrap();
        let mut browser =
            Browser { child, input, messages, events: Vec::new(), session: String::new(), last: 0, folder };
        let target = browser.call("Target.createTarget", json!({ "url": "about:blank" }))["targetId"].take();
        let attached = browser.call("Target.attachToTarget", json!({ "targetId": target, "flatten": true }));
        browser.session = attached["sessionId"].as_str().unwrap().to_owned();
        for domain in ["Page", "Runtime", "Network", "Log", "DOM"] {
            browser.call(&format!("{domain}.enable"), json!({}));
        }
        browser
    }

    /// Calls a method of the protocol.
    fn call(&mut self, method: &str, parameters: Value) -> Value {
        self.last += 1;
        let mut message = json!({ "id": self.last, "method": method, "params": parameters });
        if !self.session.is_empty() {
            message["sessionId"] = self.session.clone().into();
        }
        self.input.write_all(message.to_string().as_bytes()).unwrap();
        self.input.write_all(&[0]).unwrap();
        let deadline = Instant::now() + PATIENCE;
        loop {
            let mut answer = self
                .messages
                .recv_timeout(deadline.saturating_duration_since(Instant::now()))
                .unwrap_or_else(|error| panic!("{method}: {error}"));
            if answer["id"] == self.last {
                assert!(answer.get("error").is_none(), "{method}: {answer}");
                return answer["result"].take();
            }
            self.events.push(answer);
        }
    }

    /// The value of an expression within the page.
    fn eval(&mut self, expression: &str) -> Value {
        let mut answer =
            self.call("Runtime.evaluate", json!({ "expression": expression, "returnByValue": true }));
        assert!(answer.get("exceptionDetails").is_none(), "{expression}: {answer}");
        answer["result"]["value"].take()
    }

    /// Waits until an expression is true.
    fn until(&mut self, expression: &str) {
        let start = Instant::now();
        while self.eval(expression) != true {
            let page = self.eval("document.body.innerText");
            assert!(start.elapsed() < PATIENCE, "not within {PATIENCE:?}: {expression}; the page is: {page}");
            thread::sleep(Duration::from_millis(100));
        }
    }

    fn open(&mut self, url: &str) {
        self.call("Page.navigate", json!({ "url": url }));
    }

    fn key(&mut self, key: &str, text: &str) {
        let code = if key == "Enter" { 13 } else { 0 };
        for (kind, text) in [("keyDown", text), ("keyUp", "")] {
            let event = json!({ "type": kind, "key": key, "text": text, "windowsVirtualKeyCode": code });
            self.call("Input.dispatchKeyEvent", event);
        }
    }

    /// The document as text, without running anything in it.
    fn document(&mut self) -> String {
        let root = self.call("DOM.getDocument", json!({}))["root"]["nodeId"].take();
        let html = self.call("DOM.getOuterHTML", json!({ "nodeId": root }));
        html["outerHTML"].as_str().unwrap().to_owned()
    }

    /// The texts of a column.
    fn column(&mut self, number: usize) -> Vec<String> {
        let cells =
            format!("[...document.querySelectorAll('tbody tr')].map(row => row.cells[{number}].textContent)");
        self.eval(&cells).as_array().unwrap().iter().map(|text| text.as_str().unwrap().to_owned()).collect()
    }

    /// Leaves a picture in target/page.
    fn picture(&mut self, name: &str) {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/page");
        fs::create_dir_all(&folder).unwrap();
        let picture = self.call("Page.captureScreenshot", json!({ "format": "png" }));
        // Base64 is what the protocol has; base64(1) is part of every Debian.
        let mut decode = Command::new("base64")
            .arg("-d")
            .stdin(Stdio::piped())
            .stdout(fs::File::create(folder.join(name)).unwrap())
            .spawn()
            .unwrap();
        decode.stdin.take().unwrap().write_all(picture["data"].as_str().unwrap().as_bytes()).unwrap();
        assert!(decode.wait().unwrap().success());
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Our own child, not waited for yet, so the id is still its own.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// An agent that watches this process, on that port (0: a free one).
struct Agent {
    child: Child,
    address: String,
}

impl Agent {
    fn start(address: &str) -> Agent {
        let own = std::process::id().to_string();
        let mut command = agent(&["agent", "--listen", address, "--socket", "none", "--pid", &own]);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
        let first = lines.next().unwrap();
        let address = first.strip_prefix("listening on http://").and_then(|url| url.strip_suffix("/metrics"));
        let agent = Agent { child, address: address.unwrap_or_else(|| panic!("{first}")).to_owned() };
        assert!(lines.any(|line| line == "watching"));
        // Whatever it says from now on is read, so that it can say it.
        thread::spawn(move || lines.for_each(drop));
        agent
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Threads that wait and are busy by turns, the later ones for longer; until the value is dropped.
struct Loops(Arc<AtomicBool>);

impl Loops {
    fn start() -> Loops {
        let stop = Arc::new(AtomicBool::new(false));
        for (i, name) in NAMES.into_iter().enumerate() {
            let stop = Arc::clone(&stop);
            let busy = Duration::from_millis(1 << (2 * i));
            let looped = move || {
                let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).unwrap();
                let timeout = Timespec { tv_sec: 0, tv_nsec: 20_000_000 };
                while !stop.load(Ordering::Relaxed) {
                    let mut events = Vec::with_capacity(4);
                    let _ = epoll::wait(&epoll, rustix::buffer::spare_capacity(&mut events), Some(&timeout));
                    thread::sleep(busy);
                }
            };
            thread::Builder::new().name(name.to_owned()).spawn(looped).unwrap();
        }
        Loops(stop)
    }
}

impl Drop for Loops {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Without a script it is a table, sorted by utilisation.
fn is_a_table_without_its_script(browser: &mut Browser, url: &str) {
    browser.call("Emulation.setScriptExecutionDisabled", json!({ "value": true }));
    until("the loops are in the table", || {
        browser.open(url);
        thread::sleep(Duration::from_millis(700));
        browser.document().matches("<tr>").count() > NAMES.len()
    });
    let document = browser.document();
    assert!(
        document.contains("&lt;img src=x&gt;") && document.contains("http-equiv=\"refresh\""),
        "{document}"
    );
    browser.call("Emulation.setScriptExecutionDisabled", json!({ "value": false }));
}

/// With it, the table is live, and no name has become an element.
fn is_live_with_it(browser: &mut Browser, url: &str) {
    browser.open(url);
    browser.until(
        "!document.getElementById('tools')?.hidden && document.querySelectorAll('tbody tr').length >= 4",
    );
    assert_eq!(browser.eval("document.querySelectorAll('tbody img, tbody b, tbody script').length"), 0);
    let names = browser.column(0);
    for name in NAMES {
        assert!(names.iter().any(|shown| shown.ends_with(name)), "{name}: {names:?}");
    }
    let status = browser.eval("document.getElementById('status').textContent");
    browser.until(&format!("document.getElementById('status').textContent !== {status}"));
    let busiest = browser.column(0).first().cloned().unwrap_or_default();
    assert!(busiest.ends_with(NAMES[3]), "the one that is busy for 64 ms and waits for 20: {busiest}");
    assert!(browser.eval("document.querySelectorAll('tbody .strip .h9').length").as_u64().unwrap() >= 8);
    assert_eq!(
        browser.eval("(main => main.scrollWidth <= main.clientWidth)(document.querySelector('main'))"),
        true
    );
    browser.picture("light.png");
}

/// Sorting by a click and by a key; it stays through an update.
fn sorts(browser: &mut Browser) {
    browser.eval("document.querySelectorAll('thead button')[0].click()");
    let mut sorted = browser.column(0);
    assert_eq!(browser.eval("document.querySelector('thead th').getAttribute('aria-sort')"), "ascending");
    assert!(browser.eval("(() => { const t = [...document.querySelectorAll('tbody tr')].map(r => r.cells[0].textContent); return t.every((x, i) => i === 0 || t[i-1].localeCompare(x) <= 0) })()") == true, "{sorted:?}");
    browser.eval("document.querySelectorAll('thead button')[0].focus()");
    browser.key("Enter", "\r");
    sorted.reverse();
    assert_eq!(browser.column(0), sorted);
    let status = browser.eval("document.getElementById('status').textContent");
    browser.until(&format!("document.getElementById('status').textContent !== {status}"));
    assert_eq!(browser.column(0), sorted);
    assert_eq!(browser.eval("document.activeElement.textContent"), "Process", "the focus stays");
}

/// Filter and pause by keys.
fn takes_keys(browser: &mut Browser) {
    browser.key("/", "/");
    assert_eq!(browser.eval("document.activeElement.id"), "filter");
    for letter in ["s", "t", "e", "a", "d", "y"] {
        browser.key(letter, letter);
    }
    assert_eq!(browser.column(0).len(), 1);
    browser.eval("filter.value = ''; filter.dispatchEvent(new Event('input')); filter.blur()");
    browser.key("p", "p");
    assert_eq!(browser.eval("document.getElementById('pause').getAttribute('aria-pressed')"), "true");
    browser.key("p", "p");
}

/// Dark where the system is.
fn is_dark_where_the_system_is(browser: &mut Browser) {
    let ground = "getComputedStyle(document.body).backgroundColor";
    let light = browser.eval(ground);
    let dark = json!({ "features": [{ "name": "prefers-color-scheme", "value": "dark" }] });
    browser.call("Emulation.setEmulatedMedia", dark);
    assert_ne!(browser.eval(ground), light);
    browser.until("!document.body.classList.contains('stale') && document.getElementById('status').textContent.startsWith('read')");
    browser.picture("dark.png");
}

/// Nobody else was asked, and nothing was refused by the policy or went wrong, until the agent ends.
fn asks_nobody_else_and_breaks_no_rule(browser: &Browser, url: &str) {
    let requested: HashSet<String> = (browser.events.iter())
        .filter(|event| event["method"] == "Network.requestWillBeSent")
        .map(|event| event["params"]["request"]["url"].as_str().unwrap().to_owned())
        .collect();
    assert!(requested.len() >= 4, "{requested:?}");
    assert!(requested.iter().all(|asked| asked.starts_with(url) || asked == "data:,"), "{requested:?}");
    let wrong = |event: &&Value| {
        event["method"] == "Runtime.exceptionThrown"
            || (event["method"] == "Log.entryAdded" && event["params"]["entry"]["level"] == "error")
    };
    assert_eq!(browser.events.iter().filter(wrong).collect::<Vec<_>>(), Vec::<&Value>::new());
}

/// It says when the agent is gone, and comes back with another one.
fn comes_back(browser: &mut Browser, agent: Agent) {
    let address = agent.address.clone();
    drop(agent);
    browser.until("document.body.classList.contains('stale')");
    let status = browser.eval("document.getElementById('status').textContent");
    assert_eq!(status, "the agent does not answer; trying again");
    browser.picture("gone.png");
    let _agent = Agent::start(&address);
    browser.until(
        "!document.body.classList.contains('stale') && document.querySelectorAll('tbody tr').length >= 4",
    );
}

#[test]
fn the_page_lives_in_a_browser() {
    if !require_bpf() {
        return;
    }
    let path = env::var_os("PATH").unwrap_or_default();
    let found = env::split_paths(&path).map(|folder| folder.join("chromium")).find(|file| file.is_file());
    let Some(chromium) = found else {
        return cannot_run("chromium is not in PATH (Debian package chromium)");
    };
    let _loops = Loops::start();
    let agent = Agent::start("127.0.0.1:0");
    let url = format!("http://{}/", agent.address);
    let mut browser = Browser::start(&chromium);
    is_a_table_without_its_script(&mut browser, &url);
    is_live_with_it(&mut browser, &url);
    sorts(&mut browser);
    takes_keys(&mut browser);
    is_dark_where_the_system_is(&mut browser);
    asks_nobody_else_and_breaks_no_rule(&browser, &url);
    comes_back(&mut browser, agent);
}
