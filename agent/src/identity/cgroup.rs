//! What a cgroup path says: the systemd unit, the container, the pod. Pure: texts in, names out.
//!
//! Runtimes write the container's id as 64 hexadecimal digits into the path, kubelet the pod's UID behind "pod"; what
//! stands around them differs by driver and version, so only these two shapes are looked for, from the inside out.

/// Digits of a container id (docker, containerd, CRI-O, podman).
const ID_DIGITS: usize = 64;

/// The paths in the text of /proc/PID/cgroup (cgroups(7)): lines of `hierarchy:controllers:path`.
pub struct Paths<'a>(Vec<(&'a str, &'a str)>);

impl<'a> Paths<'a> {
    /// Reads the text; lines that are none are left out.
    pub fn new(text: &'a str) -> Paths<'a> {
        let line = |line: &'a str| {
            let mut fields = line.splitn(3, ':').skip(1);
            Some((fields.next()?, fields.next()?))
        };
        Paths(text.lines().filter_map(line).collect())
    }

    /// Every path, by hierarchy.
    pub fn all(&self) -> Vec<String> {
        self.0.iter().map(|(_, path)| (*path).to_owned()).collect()
    }

    /// The path of the v2 hierarchy; where it is in the root of that one, of systemd's own v1 hierarchy.
    pub fn main(&self) -> Option<&'a str> {
        match (self.of(""), self.of("name=systemd")) {
            (Some("/"), Some(systemd)) if systemd != "/" => Some(systemd),
            (unified, systemd) => unified.or(systemd),
        }
    }

    /// What the main path says, else any other: on hybrid hosts docker places containers in the v1 hierarchies alone.
    pub fn find<T>(&self, what: impl Fn(&'a str) -> Option<T>) -> Option<T> {
        let others = self.0.iter().map(|(_, path)| *path);
        self.main().into_iter().chain(others).find_map(what)
    }

    fn of(&self, controllers: &str) -> Option<&'a str> {
        self.0.iter().find(|(own, _)| *own == controllers).map(|(_, path)| *path)
    }
}

/// The systemd unit that a cgroup path belongs to: its last part that is named as one.
pub fn unit(path: &str) -> Option<String> {
    const KINDS: [&str; 5] = [".service", ".scope", ".socket", ".mount", ".swap"];
    path.rsplit('/').find(|part| KINDS.iter().any(|kind| part.ends_with(kind))).map(str::to_owned)
}

/// The id of the innermost container of a cgroup path.
pub fn container(path: &str) -> Option<String> {
    parts(path).find_map(container_of).map(str::to_owned)
}

/// The UID of the innermost Kubernetes pod of a cgroup path.
pub fn pod(path: &str) -> Option<String> {
    parts(path).find_map(pod_of)
}

/// The parts of a path from the inside out. containerd that is told systemd's names but not its driver writes several
/// into one, with colons: kubepods-pod1.slice:cri-containerd:2.
fn parts(path: &str) -> impl Iterator<Item = &str> {
    path.rsplit('/').flat_map(|part| part.rsplit(':'))
}

/// ID, RUNTIME-ID, or either with .scope. A RUNTIME-conmon-ID is the program that watches over the container, from
/// outside.
fn container_of(part: &str) -> Option<&str> {
    let part = part.strip_suffix(".scope").unwrap_or(part);
    let (before, id) = part.split_at_checked(part.len().checked_sub(ID_DIGITS)?)?;
    let is_id = id.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
    let runtime = before.strip_suffix('-').or(before.is_empty().then_some(""))?;
    (is_id && runtime != "conmon" && !runtime.ends_with("-conmon")).then_some(id)
}

/// podUID (the cgroupfs driver), or kubepods-QOS-podUID.slice with _ for - (the systemd driver). A pod of a file has a
/// hash of 32 digits in the place of the UID.
fn pod_of(part: &str) -> Option<String> {
    let uid = match part.strip_suffix(".slice") {
        Some(slice) if slice.contains("kubepods") => slice.rsplit_once("-pod")?.1.replace('_', "-"),
        Some(_) => return None,
        None => part.strip_prefix("pod")?.to_owned(),
    };
    let lengths: Vec<usize> = uid.split('-').map(str::len).collect();
    let is_hex = uid.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-');
    (is_hex && matches!(lengths[..], [8, 4, 4, 4, 12] | [32])).then_some(uid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_v2_path_counts_unless_it_is_the_root_of_a_hybrid_host() {
        let main = |text: &'static str| Paths::new(text).main();
        let hybrid = "12:memory:/m\n1:name=systemd:/system.slice/redis.service\n0::/\n";
        assert_eq!(main(hybrid), Some("/system.slice/redis.service"));
        assert_eq!(main("0::/system.slice/a.service\n"), Some("/system.slice/a.service"));
        assert_eq!(main("4:cpu:/x\n0::/\n"), Some("/"));
        assert_eq!(main("1:name=systemd:/user.slice\n"), Some("/user.slice"));
        assert_eq!((main(""), main("nonsense\n0:")), (None, None));
        assert_eq!(main("0::/with:colon\n"), Some("/with:colon"));
    }

    #[test]
    fn a_unit_is_the_innermost_part_that_is_named_as_one() {
        assert_eq!(unit("/system.slice/redis.service").as_deref(), Some("redis.service"));
        assert_eq!(unit("/user.slice/user@0.service/app.slice/x.scope/inner").as_deref(), Some("x.scope"));
        assert_eq!(unit("/"), None);
    }

    #[test]
    fn what_only_looks_like_an_id_is_none() {
        let id = "4f".repeat(32);
        assert_eq!(container(&format!("/a/{id}")), Some(id.clone()));
        for path in [
            format!("/a/{}", id.to_uppercase()),
            format!("/a/{id}0"),
            format!("/a/x{id}"),
            format!("/a/{}g", &id[1..]),
            format!("/a/libpod-conmon-{id}.scope"),
            format!("/a/{}é", &id[2..]),
            "/a".to_owned(),
            String::new(),
        ] {
            assert_eq!(container(&path), None, "{path}");
        }
    }

    #[test]
    fn what_only_looks_like_a_pod_is_none() {
        let uid = "0a1b2c3d-1111-2222-3333-444455556666";
        assert_eq!(pod(&format!("/kubepods/pod{uid}")).as_deref(), Some(uid));
        for path in
            ["/podman", "/machine.slice/machine-libpod_pod_0a1b.slice", "/pod0a1b2c3d-1111", "/pod", "/"]
        {
            assert_eq!(pod(path), None, "{path}");
        }
    }
}
