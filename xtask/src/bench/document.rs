//! The benchmark's result: one JSON document, and the same as Markdown for readers.

use std::{fs, path::Path};

use anyhow::{Context, Result};
use serde::Serialize;

use super::{
    calls::Calls,
    figures::{Target, table},
    interest::Interest,
    loops::Loops,
    machine::Machine,
    servers::Server,
    tools::Tools,
};

/// Everything that was measured.
#[derive(Serialize)]
pub struct Document {
    machine: Machine,
    rounds: u32,
    /// A short run, whose figures mean nothing.
    quick: bool,
    /// Tools that do not work here, and why.
    left_out: Vec<String>,
    targets: Vec<Target>,
    pub calls: Option<Calls>,
    pub servers: Vec<Server>,
    pub loops: Option<Loops>,
    pub interest: Option<Interest>,
}

impl Document {
    /// Nothing measured yet.
    pub fn new(root: &Path, rounds: u32, quick: bool, tools: &Tools) -> Result<Document> {
        Ok(Document {
            machine: Machine::this(root)?,
            rounds,
            quick,
            left_out: tools.left_out.clone(),
            targets: Vec::new(),
            calls: None,
            servers: Vec::new(),
            loops: None,
            interest: None,
        })
    }

    /// Compares with the bounds of the issue.
    pub fn judge(&mut self) {
        let calls = self.calls.iter().flat_map(Calls::targets);
        let loops = self.loops.iter().flat_map(Loops::targets);
        self.targets = calls.chain(loops).chain(self.interest.iter().flat_map(Interest::targets)).collect();
    }

    /// Prints the table, and writes it and the JSON into a folder.
    pub fn write(&self, folder: &Path) -> Result<()> {
        let markdown = self.markdown();
        println!("\n{markdown}");
        fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
        let json = serde_json::to_string_pretty(self)? + "\n";
        for (name, text) in [("latest.md", markdown), ("latest.json", json)] {
            let file = folder.join(name);
            fs::write(&file, text).with_context(|| format!("write {}", file.display()))?;
            println!("wrote {}", file.display());
        }
        Ok(())
    }

    fn markdown(&self) -> String {
        let mut text = format!("# What loopscope costs\n\n{}.\n", self.machine.show());
        text += &format!(
            "Made by `cargo xtask bench`, {} rounds; the JSON beside this has all of them.\n",
            self.rounds
        );
        if self.quick {
            text += "\n**A quick run: it shows that everything works, its figures mean nothing.**\n";
        }
        for why in &self.left_out {
            text += &format!("\n- {why}\n");
        }
        if !self.targets.is_empty() {
            text += "\n## Bounds\n\n";
            let rows: Vec<Vec<String>> = self.targets.iter().map(row).collect();
            text += &table(&["what", "bound", "measured", "reached"], &rows);
        }
        let servers = (!self.servers.is_empty()).then(|| Server::markdown(&self.servers));
        let parts = [
            self.calls.as_ref().map(Calls::markdown),
            servers,
            self.loops.as_ref().map(Loops::markdown),
            self.interest.as_ref().map(Interest::markdown),
        ];
        for part in parts.into_iter().flatten() {
            text += "\n";
            text += &part;
        }
        text
    }
}

fn row(target: &Target) -> Vec<String> {
    let reached = if target.reached { "yes" } else { "**no**" };
    vec![target.what.clone(), target.bound.clone(), target.figure.clone(), reached.to_owned()]
}
