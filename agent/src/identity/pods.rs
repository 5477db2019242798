//! Names of pods, from the folder into which kubelet writes their logs. Asks no API server.

use std::{
    collections::{HashMap, HashSet},
    fmt, fs,
    path::{Path, PathBuf},
};

/// UIDs without a folder that are remembered; beyond it all are forgotten and looked for anew.
const REMEMBERED: usize = 4_096;

/// A Kubernetes pod.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Pod {
    /// Its UID.
    pub uid: String,
    /// Its namespace and its name, where this host has them.
    pub named: Option<(String, String)>,
}

impl fmt::Display for Pod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.named {
            Some((namespace, name)) => write!(f, "{namespace}/{name}"),
            None => f.write_str(&self.uid),
        }
    }
}

/// The pods of this host that have logs.
#[derive(Default)]
pub struct Pods {
    folder: PathBuf,
    named: HashMap<String, (String, String)>,
    missing: HashSet<String>,
}

impl Pods {
    /// `folder`: kubelet's, with a folder NAMESPACE_NAME_UID for each pod.
    pub fn new(folder: &Path) -> Pods {
        Pods { folder: folder.to_owned(), ..Pods::default() }
    }

    /// The pod of that UID. kubelet makes the folder before it starts a container: one that is not there when it is
    /// first asked for never comes.
    pub fn get(&mut self, uid: String) -> Pod {
        if !self.named.contains_key(&uid) && !self.missing.contains(&uid) {
            self.read();
            if !self.named.contains_key(&uid) {
                if self.missing.len() >= REMEMBERED {
                    self.missing.clear();
                }
                self.missing.insert(uid.clone());
            }
        }
        Pod { named: self.named.get(&uid).cloned(), uid }
    }

    /// Reads the folder anew; pods that have gone are forgotten.
    fn read(&mut self) {
        self.named.clear();
        let entries = fs::read_dir(&self.folder).into_iter().flatten().flatten();
        self.named.extend(entries.filter_map(|entry| parse(entry.file_name().to_str()?)));
    }
}

/// UID, namespace and name; none of them can hold an underscore.
fn parse(folder: &str) -> Option<(String, (String, String))> {
    let mut parts = folder.split('_');
    let (namespace, name, uid) = (parts.next()?, parts.next()?, parts.next()?);
    let is_whole = parts.next().is_none() && ![namespace, name, uid].contains(&"");
    is_whole.then(|| (uid.to_owned(), (namespace.to_owned(), name.to_owned())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_has_three_names_or_is_none() {
        let found = parse("kube-system_coredns-5d78c9869d-abcde_0a1b").unwrap();
        assert_eq!(
            found,
            ("0a1b".to_owned(), ("kube-system".to_owned(), "coredns-5d78c9869d-abcde".to_owned()))
        );
        for other in ["", "a_b", "a_b_c_d", "a__c", "lost+found"] {
            assert_eq!(parse(other), None, "{other}");
        }
    }

    #[test]
    fn a_pod_without_a_name_goes_by_its_uid() {
        let pod = Pods::new(Path::new("/no/such/folder")).get("0a1b".to_owned());
        assert_eq!((pod.to_string(), pod.named), ("0a1b".to_owned(), None));
    }
}
