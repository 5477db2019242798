//! `strace -f -c`: calls and errors of the epoll system calls, summed over a process and its descendants.
//!
//! Sound only where every process leaves by itself: a call that exit_group cuts off may not be counted.

use std::{collections::BTreeMap, fs, process::Command};

use super::process::Process;
use crate::folder::Folder;

/// A traced server.
pub struct Strace {
    process: Process,
    table: String,
}

/// Calls, and those of them that failed, by system call.
#[derive(Debug)]
pub struct Calls(BTreeMap<String, (u64, u64)>);

impl Strace {
    /// Starts a server with these arguments, traced from its first call.
    pub fn start(folder: &Folder, program: &str, arguments: &[String]) -> Self {
        let table = folder.file("strace");
        let mut command = Command::new("strace");
        command.args(["-f", "-c", "-U", "calls,errors,name", "-e", "trace=/^epoll_", "-o", &table, program]);
        Strace { process: Process::start(command.args(arguments)), table }
    }

    /// Waits until everything that is traced ended; what was counted.
    pub fn finish(self) -> Calls {
        self.process.finish();
        parse(&fs::read_to_string(self.table).unwrap())
    }
}

/// Reads lines of calls, errors where there are any, and a name.
fn parse(table: &str) -> Calls {
    let mut calls = BTreeMap::new();
    for line in table.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (count, errors, name) = match words[..] {
            [count, name] => (count, "0", name),
            [count, errors, name] => (count, errors, name),
            _ => continue,
        };
        if let (Ok(count), Ok(errors), true) = (count.parse(), errors.parse(), name != "total") {
            calls.insert(name.to_owned(), (count, errors));
        }
    }
    Calls(calls)
}

impl Calls {
    /// Calls and errors of these system calls together.
    pub fn sum(&self, names: &[&str]) -> (u64, u64) {
        let counts = names.iter().filter_map(|name| self.0.get(*name));
        counts.fold((0, 0), |sum, count| (sum.0 + count.0, sum.1 + count.1))
    }
}
