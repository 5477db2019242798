//! Which group a thread belongs to, and which groups may have series: labels, globs, age, number. Counts nothing.

use std::{borrow::Cow, time::Duration};

use clap::ValueEnum;
use globset::GlobSet;
use loopscope_probe::mechanism;

use crate::{
    identity::Process,
    model::{CtlWindow, LoopWindow},
};

/// The values of the groups that have no series of their own.
pub const OTHER: &str = "~other";

/// The value where a process has none: no unit, no container.
pub const NONE: &str = "~none";

/// What loops are put together by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum By {
    /// Name of the process
    #[default]
    Comm,
    /// Path of the executable
    Exe,
    /// Path of the control group
    Cgroup,
    /// systemd unit
    Unit,
    /// Container id
    Container,
    /// Kubernetes namespace and pod
    Pod,
    /// Process; a series for each that there ever is
    Pid,
    /// Thread; a series for each that there ever is
    Tid,
}

impl By {
    /// Names of the labels of a group, but for the mechanism.
    pub fn labels(self) -> &'static [&'static str] {
        match self {
            By::Comm => &["comm"],
            By::Exe => &["exe"],
            By::Cgroup => &["cgroup"],
            By::Unit => &["unit"],
            By::Container => &["container"],
            By::Pod => &["namespace", "pod"],
            By::Pid => &["pid", "comm"],
            By::Tid => &["pid", "tid", "comm", "thread"],
        }
    }

    /// The values of the labels.
    fn values<'a>(self, who: &Who<'a>) -> Vec<Cow<'a, str>> {
        let known = |value: &'a Option<String>| Cow::from(value.as_deref().unwrap_or_default());
        let process = who.process;
        match self {
            By::Comm => vec![who.comm.into()],
            By::Exe => vec![known(&process.exe)],
            By::Cgroup => vec![known(&process.cgroup)],
            By::Unit => vec![known(&process.unit)],
            By::Container => vec![known(&process.container)],
            By::Pod => match process.pod.as_ref().map(|pod| (&pod.named, &pod.uid)) {
                Some((Some((namespace, name)), _)) => vec![namespace.into(), name.into()],
                Some((None, uid)) => vec!["".into(), uid.into()],
                None => vec!["".into(), "".into()],
            },
            By::Pid => vec![who.pid.to_string().into(), who.comm.into()],
            By::Tid => {
                vec![
                    who.pid.to_string().into(),
                    who.tid.to_string().into(),
                    who.comm.into(),
                    who.thread.into(),
                ]
            }
        }
    }
}

/// A thread, as far as groups are concerned.
pub struct Who<'a> {
    pid: u32,
    tid: u32,
    comm: &'a str,
    thread: &'a str,
    process: &'a Process,
    /// One of [`mechanism`].
    pub mechanism: u32,
}

impl<'a, T> From<&'a LoopWindow<T>> for Who<'a> {
    fn from(looped: &'a LoopWindow<T>) -> Who<'a> {
        let thread = &looped.thread;
        Who {
            pid: thread.tgid,
            tid: thread.tid,
            comm: &thread.comm,
            thread: &thread.thread,
            process: &thread.process,
            mechanism: looped.mechanism,
        }
    }
}

impl<'a> From<&'a CtlWindow> for Who<'a> {
    fn from(ctl: &'a CtlWindow) -> Who<'a> {
        Who {
            pid: ctl.tgid,
            tid: ctl.tid,
            comm: &ctl.comm,
            thread: &ctl.thread,
            process: &ctl.process,
            mechanism: mechanism::EPOLL as u32,
        }
    }
}

/// Which group.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// Values of [`By::labels`].
    pub values: Vec<String>,
    /// One of [`mechanism`].
    pub mechanism: u32,
}

impl Key {
    /// The values of all labels: the mechanism is the last.
    pub fn labels(&self) -> impl Iterator<Item = &str> {
        let mechanism = mechanism::NAMES.get(self.mechanism as usize).copied().unwrap_or("unknown");
        self.values.iter().map(String::as_str).chain([mechanism])
    }
}

/// How groups are made, and which are shown.
#[derive(Clone, Debug)]
pub struct Grouping {
    /// What by.
    pub by: By,
    /// How many have series of their own.
    pub most: usize,
    /// Only those whose values match, joined by slashes; None: all.
    pub allow: Option<GlobSet>,
    /// Not those.
    pub deny: Option<GlobSet>,
    /// Only once a process has lived for this long.
    pub age: Duration,
    /// Bytes of a label's value at most.
    pub length: usize,
}

impl Default for Grouping {
    fn default() -> Self {
        Grouping { by: By::Comm, most: 200, allow: None, deny: None, age: Duration::ZERO, length: 256 }
    }
}

impl Grouping {
    /// The group of a thread.
    pub fn key(&self, who: &Who<'_>) -> Key {
        let values = self.by.values(who).into_iter().map(|value| label(&value, self.length)).collect();
        Key { values, mechanism: who.mechanism }
    }

    /// The group that takes what a thread's group may not show.
    pub fn other(&self, mechanism: u32) -> Key {
        Key { values: self.by.labels().iter().map(|_| OTHER.to_owned()).collect(), mechanism }
    }

    /// Whether a group is to be looked at, by its name.
    pub fn takes(&self, key: &Key) -> bool {
        if self.allow.is_none() && self.deny.is_none() {
            return true;
        }
        let name = key.values.join("/");
        self.allow.as_ref().is_none_or(|globs| globs.is_match(&name))
            && !self.deny.as_ref().is_some_and(|globs| globs.is_match(&name))
    }

    /// Whether a process is old enough at `now_ns` to have its group shown. One that was gone before it could be looked
    /// at is young.
    pub fn is_of_age(&self, who: &Who<'_>, now_ns: u64) -> bool {
        let age = who.process.started_ns.map_or(0, |started| now_ns.saturating_sub(started));
        u128::from(age) >= self.age.as_nanos()
    }
}

/// A value as a label may have it: at most `most` bytes (a cut one ends with ~), nothing that disturbs a terminal, and
/// nothing that looks like one of our own values, which begin with ~.
fn label(value: &str, most: usize) -> String {
    if value.is_empty() {
        return NONE.to_owned();
    }
    let mut text: String = value.chars().map(|c| if c.is_control() { '?' } else { c }).collect();
    if text.starts_with('~') {
        text.replace_range(..1, "?");
    }
    if text.len() > most {
        text.truncate(text.floor_char_boundary(most.saturating_sub(1)));
        text.push('~');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::Pod;

    #[test]
    fn a_label_is_short_and_plain() {
        assert_eq!(label("nginx", 256), "nginx");
        assert_eq!(label("a\u{1b}[31m\nb\u{7f}", 256), "a?[31m?b?");
        assert_eq!(label("", 256), NONE);
        assert_eq!(label("abcdefgh", 8), "abcdefgh");
        assert_eq!(label("abcdefghi", 8), "abcdefg~");
        assert_eq!(label("ééééé", 8), "ééé~");
    }

    #[test]
    fn a_process_cannot_pass_for_one_of_our_own_values() {
        assert_eq!((label(OTHER, 256), label(NONE, 256)), ("?other".to_owned(), "?none".to_owned()));
    }

    #[test]
    fn every_way_of_grouping_has_a_value_for_each_label() {
        let process = Process {
            exe: Some("/usr/sbin/nginx".to_owned()),
            cgroup: Some("/system.slice/nginx.service".to_owned()),
            unit: Some("nginx.service".to_owned()),
            container: Some("0a1b".to_owned()),
            pod: Some(Pod { uid: "u-1".to_owned(), named: Some(("shop".to_owned(), "cart".to_owned())) }),
            ..Process::default()
        };
        let nothing = Process::default();
        let who = |process| Who { pid: 7, tid: 8, comm: "nginx", thread: "worker", process, mechanism: 0 };
        let expected = [
            (By::Comm, "nginx", "nginx"),
            (By::Exe, "/usr/sbin/nginx", NONE),
            (By::Cgroup, "/system.slice/nginx.service", NONE),
            (By::Unit, "nginx.service", NONE),
            (By::Container, "0a1b", NONE),
            (By::Pod, "shop/cart", "~none/~none"),
            (By::Pid, "7/nginx", "7/nginx"),
            (By::Tid, "7/8/nginx/worker", "7/8/nginx/worker"),
        ];
        assert_eq!(expected.len(), By::value_variants().len());
        for (by, known, unknown) in expected {
            let grouping = Grouping { by, ..Grouping::default() };
            let [known_key, unknown_key] = [&process, &nothing].map(|process| grouping.key(&who(process)));
            assert_eq!(
                (known_key.values.join("/"), unknown_key.values.join("/")),
                (known.into(), unknown.into())
            );
            assert_eq!(known_key.values.len(), by.labels().len());
            assert_eq!(grouping.other(0).values.len(), by.labels().len());
        }
    }

    #[test]
    fn the_mechanism_is_the_last_label() {
        let key = Key { values: vec!["redis".to_owned()], mechanism: mechanism::SELECT as u32 };
        assert_eq!(key.labels().collect::<Vec<_>>(), ["redis", "select"]);
        assert_eq!(Key { mechanism: 99, ..key }.labels().last(), Some("unknown"));
    }
}
