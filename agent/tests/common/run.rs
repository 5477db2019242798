//! One report over many workloads: each test looks at its own part.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{Report, Workload};

/// A workload that was observed.
pub struct Seen {
    /// Its process id.
    pub pid: u32,
    /// What it printed.
    pub said: Vec<Value>,
}

impl Seen {
    /// The only thing that it printed.
    pub fn done(&self) -> &Value {
        assert_eq!(self.said.len(), 1);
        &self.said[0]
    }
}

/// A report and the workloads that ran one after another while it was made.
pub struct Run {
    /// Process id of the agent.
    pub agent: u32,
    /// What it printed.
    pub report: Value,
    seen: BTreeMap<&'static str, Seen>,
}

impl Run {
    /// Runs each command line and waits for as many objects as stand beside it. All stay until the report is made,
    /// but for those with `--quit`.
    pub fn of(workloads: &[(&'static str, usize)]) -> Run {
        let report = Report::start(&[]);
        let agent = report.pid();
        let mut seen = BTreeMap::new();
        let mut running = Vec::new();
        for (words, lines) in workloads {
            let workload = Workload::start(words);
            let said = (0..*lines).map(|_| workload.said()).collect();
            seen.insert(*words, Seen { pid: workload.pid(), said });
            match words.starts_with("--quit") {
                true => workload.finish(),
                false => running.push(workload),
            }
        }
        let report = report.stop();
        running.into_iter().for_each(Workload::finish);
        Run { agent, report, seen }
    }

    /// The workload with that command line.
    pub fn seen(&self, words: &str) -> &Seen {
        &self.seen[words]
    }
}
