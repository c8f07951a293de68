//! The sizes of a task: how cpu and memory are written, and which pairs Fargate has.

/// `256`, `0.25 vCPU`, `1 vcpu`: CPU units.
pub(super) fn cpu_units(text: &str) -> Option<u32> {
    let lower = text.trim().to_ascii_lowercase();
    match lower.strip_suffix("vcpu") {
        Some(number) => scaled(number, 1024.0),
        None => lower.parse().ok(),
    }
}

/// `512`, `0.5GB`, `2 GB`: mebibytes.
pub(super) fn mebibytes(text: &str) -> Option<u32> {
    let lower = text.trim().to_ascii_lowercase();
    match lower.strip_suffix("gb") {
        Some(number) => scaled(number, 1024.0),
        None => lower.parse().ok(),
    }
}

fn scaled(number: &str, factor: f64) -> Option<u32> {
    let value = number.trim().parse::<f64>().ok()? * factor;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "in range"
    )]
    (value.fract() == 0.0 && (0.0..4_000_000_000.0).contains(&value)).then_some(value as u32)
}

/// The pairs of "Amazon ECS task definition parameters for Fargate, Task size".
pub(super) fn is_fargate_size(cpu: u32, mebibytes: u32) -> bool {
    let gib = |from: u32, to: u32, step: u32| {
        mebibytes.is_multiple_of(1024)
            && (from..=to).contains(&(mebibytes / 1024))
            && (mebibytes / 1024 - from).is_multiple_of(step)
    };
    match cpu {
        256 => matches!(mebibytes, 512 | 1024 | 2048),
        512 => gib(1, 4, 1),
        1024 => gib(2, 8, 1),
        2048 => gib(4, 16, 1),
        4096 => gib(8, 30, 1),
        8192 => gib(16, 60, 4),
        16384 => gib(32, 120, 8),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_and_memory_come_in_fixed_pairs() {
        for (cpu, memory, valid) in [
            (256, 512, true),
            (256, 2048, true),
            (256, 3072, false),
            (512, 512, false),
            (512, 4096, true),
            (1024, 1024, false),
            (1024, 8192, true),
            (2048, 16384, true),
            (4096, 30720, true),
            (4096, 31744, false),
            (8192, 16384, true),
            (8192, 17408, false),
            (8192, 20480, true),
            (16384, 122_880, true),
            (300, 512, false),
        ] {
            assert_eq!(is_fargate_size(cpu, memory), valid, "{cpu} {memory}");
        }
    }

    #[test]
    fn sizes_are_written_as_numbers_or_with_units() {
        assert_eq!(cpu_units("256"), Some(256));
        assert_eq!(cpu_units("0.25 vCPU"), Some(256));
        assert_eq!(cpu_units("1vcpu"), Some(1024));
        assert_eq!(cpu_units("0.3 vCPU"), None);
        assert_eq!(mebibytes("0.5GB"), Some(512));
        assert_eq!(mebibytes("2 GB"), Some(2048));
        assert_eq!(mebibytes("two"), None);
    }
}
