//! The BTF reader against `bpftool btf dump`: every offset, size, parameter count and enumerator of the running
//! kernel.
//!
//! Without the file or without bpftool there is nothing to compare with: a failure in CI, a printed reason
//! elsewhere.
#![cfg(test)]

use std::collections::HashMap;
use std::path::Path;
use std::process::Command;

use loopscope::kernel::btf::{Btf, Field};

/// Where the kernel shows its BTF.
const VMLINUX: &str = "/sys/kernel/btf/vmlinux";

/// What the agent needs most; each must have been compared, and not only if it happens to exist.
const NEEDED: [(&str, &[&str]); 8] = [
    ("eventpoll", &["rdllist", "lock", "rbr", "ovflist", "user", "file"]),
    ("epitem", &["rbn", "rdllink", "ffd", "pwqlist", "ep", "fllink", "event"]),
    ("task_struct", &["pid", "tgid", "files", "comm", "group_leader", "__state"]),
    ("files_struct", &["fdt"]),
    ("fdtable", &["max_fds", "fd"]),
    ("file", &["f_op", "private_data"]),
    ("rb_root_cached", &["rb_root", "rb_leftmost"]),
    #[cfg(target_arch = "x86_64")]
    ("pt_regs", &["di", "si", "dx", "r10", "orig_ax", "ax"]),
    #[cfg(not(target_arch = "x86_64"))]
    ("pt_regs", &[]),
];

/// One type of bpftool's dump.
#[derive(Default)]
struct Dumped<'a> {
    kind: &'a str,
    name: &'a str,
    values: HashMap<&'a str, i128>,
    /// Lines under it: name and numbers.
    entries: Vec<(&'a str, HashMap<&'a str, i128>)>,
}

impl Dumped<'_> {
    fn number(&self, key: &str) -> i128 {
        self.values.get(key).copied().unwrap_or_else(|| panic!("{} {} has no {key}", self.kind, self.name))
    }
}

/// The dump by type id.
struct Dump<'a>(Vec<Dumped<'a>>);

impl<'a> Dump<'a> {
    /// Reads `bpftool btf dump file FILE format raw`: `[1] KIND 'name' key=value ...`, and entries behind a tab.
    fn read(text: &'a str) -> Dump<'a> {
        let mut types = vec![Dumped::default()];
        for line in text.lines() {
            if let Some(entry) = line.strip_prefix('\t') {
                let (name, values) = name_and_values(entry);
                types.last_mut().unwrap().entries.push((name, values));
            } else if let Some((id, rest)) = line.strip_prefix('[').and_then(|line| line.split_once("] ")) {
                assert_eq!(id.parse(), Ok(types.len()), "ids in a row");
                let (kind, rest) = rest.split_once(' ').unwrap_or((rest, ""));
                let (name, values) = name_and_values(rest);
                types.push(Dumped { kind, name, values, entries: Vec::new() });
            }
        }
        Dump(types)
    }

    fn get(&self, id: i128) -> &Dumped<'a> {
        self.0.get(usize::try_from(id).unwrap()).unwrap()
    }

    /// The type behind typedefs and qualifiers.
    fn bare(&self, id: i128) -> &Dumped<'a> {
        let dumped = self.get(id);
        match dumped.kind {
            "TYPEDEF" | "CONST" | "VOLATILE" | "RESTRICT" | "TYPE_TAG" => self.bare(dumped.number("type_id")),
            _ => dumped,
        }
    }

    fn size(&self, id: i128) -> i128 {
        let dumped = self.bare(id);
        match dumped.kind {
            "PTR" => 8,
            "ARRAY" => dumped.number("nr_elems") * self.size(dumped.number("type_id")),
            _ => dumped.number("size"),
        }
    }

    /// Every member that C lets one name: (name, bits from the start, bits of a bitfield or 0, type).
    fn members(&self, outer: &Dumped<'a>, start: i128) -> Vec<(&'a str, i128, i128, i128)> {
        let mut all = Vec::new();
        for (name, values) in &outer.entries {
            let (bits, type_id) = (start + values["bits_offset"], values["type_id"]);
            match *name {
                "(anon)" => all.extend(self.members(self.bare(type_id), bits)),
                name => all.push((name, bits, values.get("bitfield_size").copied().unwrap_or(0), type_id)),
            }
        }
        all
    }

    /// The types of these kinds whose name no other of these kinds has.
    fn unique(&self, kinds: &[&str]) -> Vec<&Dumped<'a>> {
        let mut seen: HashMap<&str, (usize, &Dumped<'a>)> = HashMap::new();
        for dumped in self.0.iter().filter(|dumped| kinds.contains(&dumped.kind) && dumped.name != "(anon)") {
            seen.entry(dumped.name).or_insert((0, dumped)).0 += 1;
        }
        seen.into_values().filter(|(times, _)| *times == 1).map(|(_, dumped)| dumped).collect()
    }
}

/// `'name' key=value ...`; what is no number is left out.
fn name_and_values(text: &str) -> (&str, HashMap<&str, i128>) {
    let quoted = text.strip_prefix('\'').and_then(|text| text.split_once('\''));
    let (name, rest) = quoted.unwrap_or_else(|| text.split_once(' ').unwrap_or((text, "")));
    let pairs = rest.split_whitespace().filter_map(|pair| pair.split_once('='));
    (name, pairs.filter_map(|(key, value)| Some((key, value.parse().ok()?))).collect())
}

/// Ends a test that cannot run: loudly in CI, with the reason elsewhere.
fn cannot_run(reason: &str) {
    assert!(std::env::var_os("CI").is_none(), "CI must be able to run this test: {reason}");
    eprintln!("not run: {reason}");
}

/// The reader's BTF and bpftool's text, when both can be had.
fn both() -> Option<(Btf, String)> {
    if !Path::new(VMLINUX).exists() {
        cannot_run("this kernel shows no BTF");
        return None;
    }
    let run =
        |tool: &str| Command::new(tool).args(["btf", "dump", "file", VMLINUX, "format", "raw"]).output();
    // Not in the search path of every user.
    let output = match run("bpftool").or_else(|_| run("/usr/sbin/bpftool")) {
        Ok(output) if output.status.success() => output,
        Ok(output) => {
            cannot_run(&format!("bpftool failed: {}", String::from_utf8_lossy(&output.stderr)));
            return None;
        }
        Err(error) => {
            cannot_run(&format!("bpftool: {error}; install it with the linux-tools or bpftool package"));
            return None;
        }
    };
    let btf = Btf::from_file(Path::new(VMLINUX)).unwrap();
    Some((btf, String::from_utf8(output.stdout).unwrap()))
}

/// First bit and length of a field as BTF has them; the length is 0 for what is no bitfield.
fn as_bits(field: Field) -> (i128, i128) {
    let start = i128::from(field.offset) * 8;
    field.bits.map_or((start, 0), |bits| (start + i128::from(bits.first), i128::from(bits.len)))
}

#[test]
fn fields_and_sizes_of_the_running_kernel_are_those_of_bpftool() {
    let Some((btf, text)) = both() else { return };
    let dump = Dump::read(&text);
    let (mut compared, mut needed, mut bitfields) = (0, Vec::new(), 0);
    for outer in dump.unique(&["STRUCT", "UNION"]) {
        assert_eq!(i128::from(btf.size_of(outer.name).unwrap()), outer.number("size"), "{}", outer.name);
        for (name, bits, bit_len, type_id) in dump.members(outer, 0) {
            let field = btf.field(outer.name, name).unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(as_bits(field), (bits, bit_len), "{}.{name}", outer.name);
            if bit_len == 0 {
                assert_eq!(i128::from(field.size), dump.size(type_id), "{}.{name}", outer.name);
            }
            compared += 1;
            bitfields += usize::from(bit_len > 0);
            let wanted = NEEDED.iter().find(|(struct_name, _)| *struct_name == outer.name);
            if wanted.is_some_and(|(_, names)| names.contains(&name)) {
                needed.push((outer.name, name));
            }
        }
    }
    for (outer, name) in
        NEEDED.iter().flat_map(|(outer, names)| names.iter().map(move |name| (*outer, *name)))
    {
        assert!(needed.contains(&(outer, name)), "{outer}.{name} was not compared");
    }
    assert!(compared > 10_000 && bitfields > 100, "{compared} fields, {bitfields} bitfields");
}

#[test]
fn a_nested_path_of_the_running_kernel_is_the_sum_of_its_parts() {
    let Some((btf, text)) = both() else { return };
    let dump = Dump::read(&text);
    let offset = |outer: &str, name: &str| {
        let outer = dump.unique(&["STRUCT"]).into_iter().find(|dumped| dumped.name == outer).unwrap();
        dump.members(outer, 0).into_iter().find(|member| member.0 == name).unwrap().1 / 8
    };
    let found = |outer, path| i128::from(btf.field(outer, path).unwrap().offset);
    let root = offset("eventpoll", "rbr") + offset("rb_root_cached", "rb_root");
    assert_eq!(found("eventpoll", "rbr.rb_root.rb_node"), root + offset("rb_root", "rb_node"));
    assert_eq!(found("epitem", "ffd.fd"), offset("epitem", "ffd") + offset("epoll_filefd", "fd"));
    assert_eq!(found("epitem", "event.data"), offset("epitem", "event") + offset("epoll_event", "data"));
    assert_eq!(found("task_struct", "comm[15]"), offset("task_struct", "comm") + 15);
}

#[test]
fn functions_and_enumerators_of_the_running_kernel_are_those_of_bpftool() {
    let Some((btf, text)) = both() else { return };
    let dump = Dump::read(&text);
    let functions = dump.unique(&["FUNC"]);
    assert!(functions.len() > 1000);
    for func in functions {
        let params = &dump.get(func.number("type_id")).entries;
        let variadic = params.last().is_some_and(|(_, values)| values["type_id"] == 0);
        let found = btf.func(func.name).unwrap();
        assert_eq!(
            (found.params, found.variadic),
            (params.len() - usize::from(variadic), variadic),
            "{}",
            func.name
        );
    }
    let enums = dump.unique(&["ENUM", "ENUM64"]);
    assert!(enums.len() > 100);
    for (outer, (name, values)) in
        enums.iter().flat_map(|outer| outer.entries.iter().map(move |entry| (outer, entry)))
    {
        // bpftool prints what does not fit as UL or LL.
        if let Some(value) = values.get("val") {
            assert_eq!(btf.enumerator(outer.name, name), Some(*value), "{}.{name}", outer.name);
        }
    }
}
