//! The block formats against ggml's reference, and what holds for them by themselves.
//!
//! `golden/blocks.txt` holds the reference's answers and `golden/blocks.c` makes it; the two must draw the same
//! numbers, so a change of `Draw` or `numbers` here is a change there.

use formwork_kernels::blocks::{Format, decode, encode};
use formwork_kernels::isa::{self, Isa};

const GOLDEN: &str = include_str!("golden/blocks.txt");
const WIDTH: usize = 256;
const BLOCKS: usize = 128;
const KINDS: u64 = 14;

/// SplitMix64.
struct Draw(u64);

impl Draw {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// The sum of four uniform integers, about 0 and below 1 in magnitude.
    fn bell(&mut self) -> f32 {
        let z = self.next();
        let sum: i64 = [0, 16, 32, 48].into_iter().map(|at| (z >> at & 0xffff) as i64).sum();
        (sum - 131_070) as f32 / 131_072.0
    }
}

/// One input of a kind, as the generator of the golden makes it.
fn numbers(kind: u64, draw: &mut Draw) -> Vec<f32> {
    let shared = draw.bell();
    let mut number = |i: usize| {
        let bell = draw.bell();
        let bits = draw.next() as u32;
        match kind {
            0 => bell * 0.0625,                          // weights
            1 if bits.is_multiple_of(97) => bell * 64.0, // outliers
            1 => bell,
            2 => [-0.0, 0.0][bits as usize % 2],   // zeros of both signs
            3 => bell.abs(),                       // one side
            4 => -bell.abs() - 0.125,              // the other, off zero
            5 => ((bits % 9) as f32 - 4.0) * 0.25, // few values: ties
            6 => shared,                           // equal
            7 if bits.is_multiple_of(8) => bell,   // sparse
            7 => 0.0,
            8 => f32::from_bits(bits & 0x807f_ffff), // subnormal
            9 => f32::from_bits(bits & 0x807f_ffff | (100 + bits % 41) << 23), // all magnitudes
            10 => f32::from_bits(bits & 0x807f_ffff | 0x7f00_0000), // huge
            11 if (i / 16).is_multiple_of(3) => 0.0, // zero groups, long tails
            11 => bell * bell * bell,
            12 => (i as f32 - 128.0) * 0.03125,                    // a ramp
            _ => f32::from_bits(bits & 0x80ff_ffff | 0x0080_0000), // scales underflow
        }
    };
    (0..WIDTH).map(&mut number).collect()
}

fn encoded(format: Format, x: &[f32]) -> Vec<u8> {
    // Not zero, so that a byte that is not written shows.
    let mut bytes = vec![0xa5; format.row_bytes(x.len()).expect("whole blocks")];
    encode(format, x, &mut bytes);
    bytes
}

fn decoded(format: Format, bytes: &[u8]) -> Vec<f32> {
    let mut x = vec![f32::NAN; bytes.len() / format.block_bytes() * format.block()];
    decode(format, bytes, &mut x);
    x
}

/// FNV-1a of 64 bits.
#[derive(Clone, Copy, PartialEq, Debug)]
struct Hash(u64);

impl Hash {
    const START: Hash = Hash(0xcbf2_9ce4_8422_2325);

    fn bytes(self, bytes: &[u8]) -> Hash {
        Hash(bytes.iter().fold(self.0, |h, &byte| (h ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)))
    }

    /// Every NaN counts as the same.
    fn numbers(self, x: &[f32]) -> Hash {
        x.iter().fold(self, |hash, x| {
            let bits = if x.is_nan() { 0x7fc0_0000 } else { x.to_bits() };
            hash.bytes(&bits.to_le_bytes())
        })
    }
}

/// The words of a golden line.
fn golden(format: Format, what: &str) -> Vec<&'static str> {
    let line = GOLDEN.lines().find_map(|line| line.strip_prefix(&format!("{format} {what} ")));
    line.expect("the golden has a line for each format").split(' ').collect()
}

fn golden_hashes(format: Format, what: &str) -> Vec<Hash> {
    let parse = |word: &str| Hash(u64::from_str_radix(word, 16).expect("hexadecimal"));
    golden(format, what).into_iter().map(parse).collect()
}

/// Runs `check` for every format on every instruction set of this machine.
fn everywhere(check: impl Fn(Format)) {
    for set in Isa::available() {
        isa::with(set, || Format::ALL.into_iter().for_each(&check));
    }
}

#[test]
fn the_first_block_has_the_bytes_of_the_reference() {
    everywhere(|format| {
        let x = numbers(0, &mut Draw(0));
        let hex: String =
            encoded(format, &x[..format.block()]).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!([hex.as_str()], golden(format, "first")[..], "{format}");
    });
}

#[test]
fn every_kind_of_input_has_the_bytes_and_the_numbers_of_the_reference() {
    everywhere(|format| {
        let (encode, decode) = (golden_hashes(format, "encode"), golden_hashes(format, "decode"));
        assert_eq!((encode.len(), decode.len()), (KINDS as usize, KINDS as usize));
        for kind in 0..KINDS {
            let (mut bytes, mut values, mut draw) = (Hash::START, Hash::START, Draw(kind));
            for _ in 0..BLOCKS {
                let block = encoded(format, &numbers(kind, &mut draw));
                bytes = bytes.bytes(&block);
                values = values.numbers(&decoded(format, &block));
            }
            assert_eq!(bytes, encode[kind as usize], "{format} encode, kind {kind}");
            assert_eq!(values, decode[kind as usize], "{format} decode, kind {kind}");
        }
    });
}

#[test]
fn random_bytes_decode_to_the_numbers_of_the_reference() {
    everywhere(|format| {
        let (mut values, mut draw) = (Hash::START, Draw(KINDS));
        for _ in 0..BLOCKS {
            let block: Vec<u8> = (0..format.row_bytes(WIDTH).unwrap()).map(|_| draw.next() as u8).collect();
            values = values.numbers(&decoded(format, &block));
        }
        assert_eq!([values], golden_hashes(format, "bytes")[..], "{format}");
    });
}

/// A block of zero bytes but for a few; the number at an index must come out, those beside it must not.
#[test]
fn bits_stand_where_the_layout_says() {
    // Half precision 1 is 0x3c00.
    let check = |format: Format, set: &[(usize, u8)], index: usize, want: f32, others: f32| {
        let mut block = vec![0; format.block_bytes()];
        for &(at, byte) in set {
            block[at] = byte;
        }
        let x = decoded(format, &block);
        for (i, &x) in x.iter().enumerate() {
            if i == index {
                assert_eq!(x, want, "{format}[{i}]");
            } else if i / 16 == index / 16 {
                assert_eq!(x, others, "{format}[{i}]");
            }
        }
    };
    check(Format::F16, &[(1, 0x40)], 0, 2.0, 0.0);
    check(Format::Bf16, &[(1, 0x40)], 0, 2.0, 0.0);
    check(Format::Q4_0, &[(1, 0x3c), (2 + 5, 0xa0)], 21, 2.0, -8.0);
    check(Format::Q4_1, &[(1, 0x3c), (3, 0xbc), (4 + 5, 0x0a)], 5, 9.0, -1.0);
    check(Format::Q5_0, &[(1, 0x3c), (2 + 2, 0x20), (6 + 5, 0xa0)], 21, 10.0, -16.0);
    check(Format::Q5_1, &[(1, 0x3c), (3, 0xbc), (4, 0x20), (8 + 5, 0x0a)], 5, 25.0, -1.0);
    check(Format::Q8_0, &[(1, 0x3c), (2 + 9, 0xff)], 9, -1.0, 0.0);
    // Number 175 is 47 after 128: group 10, second plane of the second 32 bytes.
    check(Format::Q2_K, &[(81, 0x3c), (83, 0x3c), (10, 0x53), (16 + 32 + 15, 3 << 2)], 175, 4.0, -5.0);
    // Group 10 has scale 32 + 5: low bits in the high half of byte 2, high bits in bits 4 and 5 of byte 8 + 2.
    let third = [(109, 0x3c), (96 + 2, 0x50), (104 + 2, 2 << 4), (32 + 32 + 15, 3 << 2), (15, 1 << 5)];
    check(Format::Q3_K, &third, 175, 15.0, -20.0);
    // Group 5 of 32: scale 0x25 and minimum 0x13, cut into four and two bits.
    let head = [(1, 0x3c), (3, 0x3c), (4 + 1, 2 << 6), (8 + 1, 1 << 6), (12 + 1, 0x35)];
    let with = |more: &[(usize, u8)]| [&head[..], more].concat();
    check(Format::Q4_K, &with(&[(16 + 2 * 32 + 15, 0x70)]), 175, 37.0 * 7.0 - 19.0, -19.0);
    check(
        Format::Q5_K,
        &with(&[(16 + 15, 1 << 5), (48 + 2 * 32 + 15, 0x70)]),
        175,
        37.0 * 23.0 - 19.0,
        -19.0,
    );
    let sixth = [(209, 0x3c), (192 + 10, 0xfe), (64 + 47, 0x0a), (128 + 32 + 15, 3 << 2)];
    check(Format::Q6_K, &sixth, 175, -2.0 * (58.0 - 32.0), 64.0);
}

/// The root of the mean square error of bell-shaped weights over that of the weights themselves, as the reference
/// has it: the price of each format in one number.
#[test]
fn each_format_loses_what_the_reference_loses() {
    let check = |format: Format, want: f64| {
        let (mut error, mut size, mut draw) = (0.0, 0.0, Draw(3));
        for _ in 0..BLOCKS {
            let x = numbers(0, &mut draw);
            for (x, y) in x.iter().zip(decoded(format, &encoded(format, &x))) {
                error += f64::from(x - y).powi(2);
                size += f64::from(*x).powi(2);
            }
        }
        let relative: f64 = f64::sqrt(error / size);
        assert!((relative / want - 1.0).abs() < 2e-3, "{format}: expected {want}, found {relative}");
    };
    check(Format::F16, 2.098e-4);
    check(Format::Bf16, 1.683e-3);
    check(Format::Q8_0, 0.00505);
    check(Format::Q6_K, 0.01694);
    check(Format::Q5_K, 0.03475);
    check(Format::Q5_1, 0.03651);
    check(Format::Q5_0, 0.04029);
    check(Format::Q4_K, 0.06842);
    check(Format::Q4_1, 0.07528);
    check(Format::Q4_0, 0.08096);
    check(Format::Q3_K, 0.14456);
    check(Format::Q2_K, 0.28614);
}

/// No number is further off than one step of its block's grid; for the formats whose scale is a simple rule.
#[test]
fn no_number_is_off_by_more_than_its_step() {
    // Half a step, or a whole one where the far end is cut; the scale is rounded to one part in 2048.
    let steps = |format: Format, (min, max): (f32, f32)| match format {
        Format::Q4_0 => min.abs().max(max) / 8.0,
        Format::Q4_1 => (max - min) / 15.0 / 2.0,
        Format::Q5_0 => min.abs().max(max) / 16.0,
        Format::Q5_1 => (max - min) / 31.0 / 2.0,
        _ => min.abs().max(max) / 127.0 / 2.0,
    };
    for kind in [0, 1, 3, 4, 5, 6, 7, 11, 12] {
        let mut draw = Draw(kind);
        for x in (0..BLOCKS).flat_map(|_| numbers(kind, &mut draw)).collect::<Vec<_>>().chunks(32) {
            let range = x.iter().fold((0.0_f32, 0.0_f32), |(min, max), &x| (min.min(x), max.max(x)));
            for format in [Format::Q4_0, Format::Q4_1, Format::Q5_0, Format::Q5_1, Format::Q8_0] {
                let bound = steps(format, range) + (range.1 - range.0) / 1024.0;
                for (x, y) in x.iter().zip(decoded(format, &encoded(format, x))) {
                    assert!((x - y).abs() <= bound, "{format}, kind {kind}: {x} came back as {y}");
                }
            }
        }
    }
}

#[test]
fn zeros_come_back_as_zeros() {
    everywhere(|format| {
        assert!(decoded(format, &encoded(format, &[0.0; WIDTH])).iter().all(|&x| x == 0.0), "{format}");
    });
}

#[test]
fn a_block_depends_on_its_own_numbers_only() {
    everywhere(|format| {
        let mut draw = Draw(5);
        let x: Vec<f32> = (0..7).flat_map(|kind| numbers(kind, &mut draw)).collect();
        let whole = encoded(format, &x);
        let parts: Vec<u8> = x.chunks(format.block()).flat_map(|x| encoded(format, x)).collect();
        assert!(whole == parts, "{format}: encoding");
        let numbers = Hash::START.numbers(&decoded(format, &whole));
        let parts: Vec<f32> = whole.chunks(format.block_bytes()).flat_map(|b| decoded(format, b)).collect();
        assert_eq!(numbers, Hash::START.numbers(&parts), "{format}: decoding");
    });
}

#[test]
fn blocks_of_one_byte_repeated_decode() {
    everywhere(|format| {
        for byte in 0..=u8::MAX {
            let x = decoded(format, &vec![byte; format.block_bytes() * 2]);
            let (first, second) = x.split_at(format.block());
            assert_eq!(Hash::START.numbers(first), Hash::START.numbers(second), "{format} {byte:#04x}");
        }
    });
}

#[test]
fn numbers_that_are_not_finite_encode_to_some_bytes() {
    everywhere(|format| {
        for odd in [f32::NAN, -f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            for (first, step) in [(0, 1), (0, WIDTH), (17, WIDTH), (3, 5)] {
                let mut x = numbers(0, &mut Draw(1));
                x.iter_mut().skip(first).step_by(step).for_each(|x| *x = odd);
                let again = encoded(format, &x);
                assert_eq!(encoded(format, &x), again, "{format}: {odd} from {first} by {step}");
            }
        }
        let mut both = vec![f32::INFINITY; WIDTH];
        both[100] = f32::NEG_INFINITY;
        assert_eq!(encoded(format, &both).len(), format.row_bytes(WIDTH).unwrap());
    });
}

#[test]
fn nothing_is_as_good_as_one_block() {
    everywhere(|format| {
        assert_eq!(encoded(format, &[]), [0_u8; 0]);
        assert_eq!(decoded(format, &[]), [0.0_f32; 0]);
    });
}

#[test]
#[should_panic(expected = "decode: bytes of 32 numbers of q4_0")]
fn a_block_cut_short_is_refused() {
    decode(Format::Q4_0, &[0; 17], &mut [0.0; 32]);
}

#[test]
#[should_panic(expected = "encode: bytes of 128 numbers of q6_k")]
fn numbers_that_are_no_whole_block_are_refused() {
    encode(Format::Q6_K, &[0.0; 128], &mut [0; 105]);
}
