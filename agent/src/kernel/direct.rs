//! The call of `bpf_rdonly_cast`, by which the programs read the kernel's memory with plain loads: aya links no kernel
//! functions, so its number is written into the object before aya sees it. Touches no other instruction.

use std::fs;

use loopscope_probe::RDONLY_CAST;

use super::btf::Btf;

/// Call of a kernel function: opcode and registers, as the programs have them.
const CALL: [u8; 4] = [0x85, 0x20, 0, 0];
/// r0 = 0, where the kernel has no such function: what comes after it is never reached.
const NOTHING: [u8; 8] = [0xb7, 0, 0, 0, 0, 0, 0, 0];
/// Whether programs are compiled; the kernel calls its own functions only from those that are.
const JIT: &str = "/proc/sys/net/core/bpf_jit_enable";

/// The numbers by which the programs read directly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Direct {
    /// BTF id of the function.
    function: u32,
    /// BTF id of a structure that begins with two longs.
    pub structure: u32,
}

impl Direct {
    /// What the running kernel offers: `btf` must be its own. None: the programs ask a helper.
    pub fn of(btf: &Btf) -> Option<Direct> {
        let function = btf.func("bpf_rdonly_cast")?.type_id;
        let structure =
            btf.struct_id("timespec64").filter(|_| matches!(btf.size_of("timespec64"), Ok(16)))?;
        let compiled = fs::read_to_string(JIT).is_ok_and(|text| text.trim() != "0");
        compiled.then_some(Direct { function, structure })
    }
}

/// Writes the function's number into every call of it, or takes the calls out. Gives how many there were.
pub fn link(object: &mut [u8], direct: Option<Direct>) -> usize {
    let mut call = CALL.to_vec();
    call.extend(RDONLY_CAST.to_le_bytes());
    let mut calls = 0;
    for instruction in object.chunks_exact_mut(8).filter(|instruction| *instruction == call) {
        match direct {
            Some(direct) => {
                let linked = CALL.into_iter().chain(direct.function.to_le_bytes());
                instruction.iter_mut().zip(linked).for_each(|(to, from)| *to = from);
            }
            None => instruction.copy_from_slice(&NOTHING),
        }
        calls += 1;
    }
    calls
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An instruction that is not the call, and the call.
    fn program() -> Vec<u8> {
        let call = CALL.into_iter().chain(RDONLY_CAST.to_le_bytes());
        [0x85, 0, 0, 0, 5, 0, 0, 0].into_iter().chain(call).collect()
    }

    #[test]
    fn a_call_gets_the_functions_number() {
        let mut object = program();
        assert_eq!(link(&mut object, Some(Direct { function: 0x0102_0304, structure: 7 })), 1);
        assert_eq!(object, [0x85, 0, 0, 0, 5, 0, 0, 0, 0x85, 0x20, 0, 0, 4, 3, 2, 1]);
    }

    #[test]
    fn a_call_is_taken_out_where_there_is_no_such_function() {
        let mut object = program();
        assert_eq!(link(&mut object, None), 1);
        assert_eq!(object, [0x85, 0, 0, 0, 5, 0, 0, 0, 0xb7, 0, 0, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn the_object_has_such_calls() {
        assert!(link(&mut loopscope_probe::object::object().to_vec(), None) > 0);
    }
}
