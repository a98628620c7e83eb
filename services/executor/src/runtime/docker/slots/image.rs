//! Makes the image of idle containers: one program that waits for ever, byte by byte, since it must be had
//! where there is no registry. It knows nothing of the engine that gets it.

/// Where the program is loaded.
const BASE: u64 = 0x40_0000;
/// Bytes of the ELF header.
const ELF_HEADER: u16 = 64;
/// Bytes of a program header.
const PROGRAM_HEADER: u16 = 56;
/// Pages are at most this large, on any kernel.
const PAGE: u64 = 0x1_0000;
/// Bytes of a block of a tar archive.
const BLOCK: usize = 512;

/// The machine code of a program, and the number by which ELF knows the machine.
struct Code {
    machine: u16,
    bytes: &'static [u8],
}

/// `pause` until a signal comes, and then again. As a container's first process it is only ended by SIGKILL.
const X86_64: Code = Code {
    machine: 62,
    bytes: &[
        0xb8, 0x22, 0, 0, 0, // mov eax, 34 (pause)
        0x0f, 0x05, // syscall
        0xeb, 0xf7, // jmp to the beginning
    ],
};

/// There is no `pause` on this machine: `ppoll` of no files, without a time, is the same.
const AARCH64: Code = Code {
    machine: 183,
    bytes: &[
        0x00, 0x00, 0x80, 0xd2, // mov x0, 0 (no list)
        0x01, 0x00, 0x80, 0xd2, // mov x1, 0 (of no files)
        0x02, 0x00, 0x80, 0xd2, // mov x2, 0 (no time)
        0x03, 0x00, 0x80, 0xd2, // mov x3, 0 (no signals)
        0x28, 0x09, 0x80, 0xd2, // mov x8, 73 (ppoll)
        0x01, 0x00, 0x00, 0xd4, // svc 0
        0xfa, 0xff, 0xff, 0x17, // b to the beginning
    ],
};

/// Makes a file system that holds the program alone, at a path, as a tar archive, for an architecture as the kernel
/// names it (x86_64, aarch64); `None` for others.
pub(in crate::runtime::docker) fn archive(arch: &str, path: &str) -> Option<Vec<u8>> {
    let code = match arch {
        "x86_64" | "amd64" => X86_64,
        "aarch64" | "arm64" => AARCH64,
        _ => return None,
    };
    Some(tar(path.trim_start_matches('/'), &elf(&code)))
}

/// Makes a static ELF file of one segment, which is the file itself (System V ABI, chapters 4 and 5).
fn elf(code: &Code) -> Vec<u8> {
    let headers = u64::from(ELF_HEADER + PROGRAM_HEADER);
    let size = headers + code.bytes.len() as u64;
    let mut file = vec![0x7f, b'E', b'L', b'F', 2, 1, 1]; // 64 bits, little-endian, version 1
    file.resize(16, 0);
    let half = |numbers: &[u16]| numbers.iter().flat_map(|n| n.to_le_bytes()).collect::<Vec<u8>>();
    let word = |number: u32| number.to_le_bytes();
    let long = |numbers: &[u64]| numbers.iter().flat_map(|n| n.to_le_bytes()).collect::<Vec<u8>>();
    file.extend(half(&[2, code.machine])); // an executable
    file.extend(word(1)); // version 1
    file.extend(long(&[BASE + headers, u64::from(ELF_HEADER), 0])); // entry, program headers, no sections
    file.extend(word(0)); // no flags
    file.extend(half(&[ELF_HEADER, PROGRAM_HEADER, 1, 0, 0, 0])); // one program header, no sections
    file.extend(word(1)); // to be loaded
    file.extend(word(5)); // readable and executable
    file.extend(long(&[0, BASE, BASE, size, size, PAGE])); // from 0 to the end of the file
    file.extend(code.bytes);
    file
}

/// Packs one executable file (POSIX ustar).
fn tar(name: &str, content: &[u8]) -> Vec<u8> {
    let mut header = vec![0; BLOCK];
    let mut put = |at: usize, text: &[u8]| header[at..at + text.len()].copy_from_slice(text);
    put(0, name.as_bytes());
    put(100, b"0000755\0"); // mode
    put(108, b"0000000\0"); // owner
    put(116, b"0000000\0"); // group
    put(124, format!("{:011o}\0", content.len()).as_bytes());
    put(136, b"00000000000\0"); // time
    put(148, b"        "); // the checksum counts as spaces in itself
    put(156, b"0"); // an ordinary file
    put(257, b"ustar\x0000");
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    let mut archive = header;
    archive.extend(content);
    // The last block is filled up, and two empty ones are the end.
    archive.resize(archive.len().next_multiple_of(BLOCK) + 2 * BLOCK, 0);
    archive
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    fn read(folder: &std::path::Path, arch: &str) -> Vec<u8> {
        let file = folder.join("image.tar");
        std::fs::write(&file, archive(arch, "/pause").expect("it is known")).expect("written");
        let unpacked = Command::new("tar").arg("-xf").arg(&file).current_dir(folder).status();
        assert!(unpacked.expect("tar runs").success());
        std::fs::read(folder.join("pause")).expect("it is in the archive")
    }

    #[test]
    fn the_archive_holds_a_program_of_the_architecture() {
        let folder = tempfile::tempdir().expect("a folder");
        for (arch, machine, bytes) in [("x86_64", 62, 129), ("aarch64", 183, 148)] {
            let program = read(folder.path(), arch);
            assert_eq!((&program[..4], program.len()), (&b"\x7fELF"[..], bytes));
            assert_eq!(u16::from_le_bytes([program[18], program[19]]), machine);
            let entry = u64::from_le_bytes(program[24..32].try_into().expect("eight bytes"));
            assert_eq!(entry - BASE, 120, "the code follows the headers");
        }
        assert_eq!(archive("riscv64", "/pause"), None);
    }

    #[test]
    fn the_jump_of_each_program_leads_to_its_beginning() {
        let jump = i8::from_le_bytes([X86_64.bytes[8]]);
        assert_eq!(i64::from(jump) + 9, 0, "counted from behind the jump");
        let words: Vec<u32> =
            AARCH64.bytes.chunks(4).map(|four| u32::from_le_bytes(four.try_into().expect("four"))).collect();
        assert_eq!(words[6], 0x1400_0000 | (-6_i32 as u32 & 0x03ff_ffff), "counted from the jump");
        assert_eq!(words[4], 0xd280_0000 | 73 << 5 | 8);
    }

    #[cfg(all(target_os = "linux", target_arch = "x86_64"))]
    #[test]
    fn the_program_waits() {
        let folder = tempfile::tempdir().expect("a folder");
        read(folder.path(), "x86_64");
        let mut child =
            Command::new(folder.path().join("pause")).stdin(Stdio::null()).spawn().expect("it runs");
        let state = format!("/proc/{}/syscall", child.id());
        // The number of `pause`, once the kernel holds it there.
        while !std::fs::read_to_string(&state).expect("it is there").starts_with("34 ") {
            assert_eq!(child.try_wait().expect("a child"), None, "it does not end");
            std::thread::yield_now();
        }
        child.kill().expect("it is ended");
        child.wait().expect("a child");
    }
}
