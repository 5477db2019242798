//! Field paths as the tables write them: `a.b[3].c`.
//!
//! Text only; nothing here knows BTF.

use super::error::BtfError;

/// One member of a path with the indexes behind it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Step<'p> {
    /// The member's name.
    pub(super) name: &'p str,
    /// The indexes behind it, from left to right.
    pub(super) indexes: Vec<u32>,
    /// The path up to and with this step.
    pub(super) so_far: &'p str,
}

/// Takes `path` apart.
pub(super) fn steps(path: &str) -> Result<Vec<Step<'_>>, BtfError> {
    let mut steps = Vec::new();
    let mut end = 0;
    for segment in path.split('.') {
        end += segment.len();
        let so_far = path.get(..end).unwrap_or(path);
        end += 1;
        let (name, indexes) = step(segment).map_err(|why| BtfError::Path { path: path.to_owned(), why })?;
        steps.push(Step { name, indexes, so_far });
    }
    Ok(steps)
}

/// Takes one segment apart: a name and any number of indexes.
fn step(segment: &str) -> Result<(&str, Vec<u32>), &'static str> {
    let (name, mut rest) = segment.split_at(segment.find('[').unwrap_or(segment.len()));
    if name.is_empty() {
        return Err("a name is empty");
    }
    if !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
        return Err("a name has a character that C does not allow");
    }
    let mut indexes = Vec::new();
    while !rest.is_empty() {
        let inner = rest.strip_prefix('[').ok_or("text behind an index")?;
        let (digits, behind) = inner.split_once(']').ok_or("an index has no closing bracket")?;
        if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err("an index is not a decimal number");
        }
        indexes.push(digits.parse().map_err(|_| "an index does not fit into 32 bits")?);
        rest = behind;
    }
    Ok((name, indexes))
}
