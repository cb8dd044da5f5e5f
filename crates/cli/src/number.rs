//! Numbers for people: thousands apart, bytes with a unit beside the exact count.

/// `1234567` as `1,234,567`.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A number of bytes in the largest unit that leaves at least 1: `36.0 KiB`.
pub(crate) fn binary(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut scaled = bytes as f64 / 1024.0;
    let mut unit = 0;
    // What would be printed as 1024.0 is 1.0 of the next unit.
    while scaled >= 1023.95 && unit + 1 < UNITS.len() {
        scaled /= 1024.0;
        unit += 1;
    }
    format!("{scaled:.1} {}", UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_stand_apart() {
        let check = |number: u64, text: &str| assert_eq!(grouped(number), text);
        check(0, "0");
        check(999, "999");
        check(1_000, "1,000");
        check(70_553_706_496, "70,553,706,496");
        check(u64::MAX, "18,446,744,073,709,551,615");
    }

    #[test]
    fn bytes_have_the_largest_fitting_unit() {
        let check = |bytes: u64, text: &str| assert_eq!(binary(bytes), text);
        check(0, "0 B");
        check(1023, "1023 B");
        check(36_864, "36.0 KiB");
        check((1 << 20) - 1, "1.0 MiB");
        check(282_214_825_984, "262.8 GiB");
        check(u64::MAX, "16.0 EiB");
    }
}
