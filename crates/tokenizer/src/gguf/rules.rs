//! The pre-tokenizers that a GGUF vocabulary may name, one line each.
//!
//! `tokenizer.ggml.pre` says by name how a byte-level vocabulary cuts texts. What a name means is what llama.cpp does
//! for it, since that is what these files are written for. To add one: a line in [`RULES`], and a pattern above it if
//! its pattern is new.

use crate::gguf::cut::Alternative::{
    Cased, Contraction, LineEnds, Run, SignAndLetters, Spaces, SpacesAtEnd, SpacesBeforeLast,
};
use crate::gguf::cut::{Alternative, Case, Lead, Marks, Pattern, Set};

/// What a name stands for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rule {
    /// The name.
    pub(crate) name: &'static str,
    /// One after the other.
    pub(crate) patterns: &'static [Pattern],
    /// What else the name says.
    pub(crate) words: Words,
    /// Whether a begin token stands before a text unless the file says otherwise.
    pub(crate) begins: Begins,
}

/// How words become pieces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Words {
    /// By merging.
    Merged,
    /// A word that is a piece is that piece, whether merges lead to it or not.
    WholeFirst,
}

/// Whether a begin token stands before a text by default.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Begins {
    /// It does.
    WithToken,
    /// It does not.
    Bare,
}

const ANY: usize = usize::MAX;

/// A run of any length.
const fn run(lead: Lead, set: Set) -> Alternative {
    Run { lead, set, least: 1, most: ANY, tail: "" }
}

/// A run of numbers of at most this many.
const fn numbers(most: usize) -> Alternative {
    Run { lead: Lead::Nothing, set: Set::Numbers, least: 1, most, tail: "" }
}

/// Signs after at most one blank, and the line ends after them.
const fn signs(set: Set, tail: &'static str) -> Alternative {
    Run { lead: Lead::Blank, set, least: 1, most: ANY, tail }
}

const GPT2: Pattern = &[
    Contraction(Case::Lower),
    run(Lead::Blank, Set::Letters),
    run(Lead::Blank, Set::Numbers),
    run(Lead::Blank, Set::Signs),
    SpacesBeforeLast,
    Spaces,
];

/// LLaMA-3's pattern and its kin differ in how many digits stay together.
const LLAMA3: Pattern = &[
    Contraction(Case::Any),
    run(Lead::NotWord, Set::Letters),
    numbers(3),
    signs(Set::Signs, "\r\n"),
    LineEnds,
    SpacesBeforeLast,
    Spaces,
];
const QWEN2: Pattern = &[
    Contraction(Case::Any),
    run(Lead::NotWord, Set::Letters),
    numbers(1),
    signs(Set::Signs, "\r\n"),
    LineEnds,
    SpacesBeforeLast,
    Spaces,
];
const LONG_NUMBERS: Pattern = &[
    Contraction(Case::Any),
    run(Lead::NotWord, Set::Letters),
    numbers(ANY),
    signs(Set::Signs, "\r\n"),
    LineEnds,
    SpacesBeforeLast,
    Spaces,
];
const SEED: Pattern = &[
    Contraction(Case::Any),
    run(Lead::NotWord, Set::Letters),
    numbers(1),
    signs(Set::Signs, ""),
    LineEnds,
    SpacesBeforeLast,
    Spaces,
];
const NO_CONTRACTIONS: Pattern = &[
    run(Lead::NotWord, Set::Letters),
    numbers(1),
    signs(Set::Signs, "\r\n"),
    LineEnds,
    SpacesBeforeLast,
    Spaces,
];
const QWEN35: Pattern = &[
    Contraction(Case::Any),
    run(Lead::NotWord, Set::LettersAndMarks),
    numbers(1),
    signs(Set::SignsNoMarks, "\r\n"),
    LineEnds,
    SpacesBeforeLast,
    Spaces,
];
const GPT4O: Pattern = &[
    Cased { marks: Marks::Apart, contraction: Some(Case::Any) },
    numbers(3),
    signs(Set::Signs, "\r\n/"),
    LineEnds,
    SpacesBeforeLast,
    Spaces,
];
const GRANITE: Pattern = &[
    Cased { marks: Marks::AsLetters, contraction: Some(Case::Any) },
    numbers(3),
    signs(Set::Signs, "\r\n/"),
    LineEnds,
    SpacesBeforeLast,
    Spaces,
];
const TEKKEN: Pattern = &[
    Cased { marks: Marks::Apart, contraction: None },
    numbers(1),
    signs(Set::Signs, "\r\n/"),
    LineEnds,
    SpacesBeforeLast,
    Spaces,
];
const DEEPSEEK3: Pattern = &[
    SignAndLetters,
    run(Lead::NotSign, Set::LettersAndMarks),
    signs(Set::PunctuationAndSymbols, "\r\n"),
    LineEnds,
    SpacesBeforeLast,
    Spaces,
];
const EACH_NUMBER: Pattern = &[numbers(1)];
const NUMBERS: Pattern = &[numbers(ANY)];
const TRIPLES: Pattern = &[numbers(3)];
const THREE_DIGITS: Pattern = &[Run { lead: Lead::Nothing, set: Set::Digits, least: 3, most: 3, tail: "" }];
const EACH_LINE_END: Pattern =
    &[Run { lead: Lead::Nothing, set: Set::LineEnds, least: 1, most: 1, tail: "" }];
const SIGNS: Pattern = &[run(Lead::Nothing, Set::PunctuationAnd("$+<=>^~|"))];
const SIGNS_AND_TICKS: Pattern = &[run(Lead::Nothing, Set::PunctuationAnd("$+<=>^~|`"))];
const SPACED_LETTERS: Pattern = &[run(Lead::Space, Set::Letters)];
const SPACED_PUNCTUATION: Pattern = &[run(Lead::Space, Set::PunctuationAnd(""))];
const SPACED_CASED_LETTERS: Pattern = &[run(Lead::Space, Set::Ranges(CASED_LETTERS))];
const SPACED_SIGNS: Pattern = &[run(
    Lead::Space,
    Set::Ranges(&[
        ('!', '/'),
        (':', '~'),
        ('\u{2018}', '\u{201f}'),
        ('\u{3000}', '\u{3002}'),
        ('\u{ff01}', '\u{ff0f}'),
        ('\u{ff1a}', '\u{ff5e}'),
    ]),
)];
const LAST_SPACES: Pattern = &[SpacesAtEnd];
/// What DeepSeek's first vocabularies took for Chinese, Japanese and Korean, and all that lies between.
const EAST_ASIAN: Pattern = &[run(
    Lead::Nothing,
    Set::Ranges(&[('\u{800}', '\u{4e00}'), ('\u{4e01}', '\u{9fa5}'), ('\u{ac00}', '\u{d7ff}')]),
)];
const HAN_AND_KANA: Pattern =
    &[run(Lead::Nothing, Set::Ranges(&[('\u{3040}', '\u{30ff}'), ('\u{4e00}', '\u{9fa5}')]))];
const BLOOM: Pattern = &[run(Lead::Blank, Set::NotSpaceNor("(|.,!?…。，、।۔،)"))];

const MERGED: Words = Words::Merged;
const WHOLE: Words = Words::WholeFirst;
const TOKEN: Begins = Begins::WithToken;
const BARE: Begins = Begins::Bare;

const fn rule(name: &'static str, patterns: &'static [Pattern], words: Words, begins: Begins) -> Rule {
    Rule { name, patterns, words, begins }
}

/// Every name that is known. The first name of several with one meaning is the one that is written.
#[rustfmt::skip]
pub(crate) const RULES: &[Rule] = &[
    rule("default", &[SIGNS, GPT2, NUMBERS, THREE_DIGITS], MERGED, BARE),
    rule("gpt-2", &[GPT2], MERGED, BARE),
    rule("llama-bpe", &[LLAMA3], WHOLE, TOKEN),
    rule("smollm", &[EACH_NUMBER, GPT2], MERGED, BARE),
    rule("qwen2", &[QWEN2], MERGED, BARE),
    rule("dbrx", &[LLAMA3], MERGED, BARE),
    rule("gpt-4o", &[GPT4O], MERGED, BARE),
    rule("tekken", &[TEKKEN], WHOLE, TOKEN),
    rule("falcon", &[SIGNS_AND_TICKS, GPT2, THREE_DIGITS], MERGED, BARE),
    rule("deepseek-llm",
        &[EACH_LINE_END, SPACED_CASED_LETTERS, SPACED_SIGNS, LAST_SPACES, EAST_ASIAN, NUMBERS], MERGED, BARE),
    rule("deepseek-coder",
        &[EACH_LINE_END, SPACED_LETTERS, SPACED_PUNCTUATION, EAST_ASIAN, EACH_NUMBER], MERGED, BARE),
    rule("deepseek-v3", &[TRIPLES, HAN_AND_KANA, DEEPSEEK3], MERGED, BARE),
    rule("qwen35", &[QWEN35], MERGED, BARE),
    rule("poro-chat", &[BLOOM], MERGED, BARE),
    rule("viking", &[BLOOM, EACH_NUMBER], MERGED, BARE),
    rule("glm4", &[LLAMA3], WHOLE, BARE),
    rule("granite-embed-multi-97m", &[GRANITE], WHOLE, BARE),
    rule("seed-coder", &[SEED], MERGED, BARE),
    rule("ufakzeka", &[NO_CONTRACTIONS], MERGED, BARE),
    rule("minicpm5", &[TRIPLES, LONG_NUMBERS], WHOLE, BARE),
    // Other names for the same.
    rule("llama3", &[LLAMA3], WHOLE, TOKEN),
    rule("llama-v3", &[LLAMA3], WHOLE, TOKEN),
    rule("falcon3", &[LLAMA3], WHOLE, TOKEN),
    rule("falcon-h1", &[LLAMA3], WHOLE, TOKEN),
    rule("pixtral", &[LLAMA3], WHOLE, TOKEN),
    rule("midm-2.0", &[LLAMA3], WHOLE, TOKEN),
    rule("lfm2", &[LLAMA3], WHOLE, TOKEN),
    rule("jina-v5-nano", &[LLAMA3], WHOLE, TOKEN),
    rule("smaug-bpe", &[LLAMA3], MERGED, BARE),
    rule("chatglm-bpe", &[LLAMA3], MERGED, BARE),
    rule("glm5", &[LLAMA3], WHOLE, BARE),
    rule("phi-2", &[GPT2], MERGED, BARE),
    rule("mpt", &[GPT2], MERGED, BARE),
    rule("olmo", &[GPT2], MERGED, BARE),
    rule("jais", &[GPT2], MERGED, BARE),
    rule("gigachat", &[GPT2], MERGED, BARE),
    rule("a.x-4.0", &[GPT2], MERGED, BARE),
    rule("mellum", &[GPT2], MERGED, BARE),
    rule("exaone4", &[GPT2], MERGED, BARE),
    rule("trillion", &[GPT2], MERGED, BARE),
    rule("granite-docling", &[GPT2], MERGED, BARE),
    rule("starcoder", &[EACH_NUMBER, GPT2], MERGED, BARE),
    rule("refact", &[EACH_NUMBER, GPT2], MERGED, BARE),
    rule("command-r", &[EACH_NUMBER, GPT2], MERGED, BARE),
    rule("codeshell", &[EACH_NUMBER, GPT2], MERGED, BARE),
    rule("exaone", &[EACH_NUMBER, GPT2], MERGED, BARE),
    rule("minerva-7b", &[EACH_NUMBER, GPT2], MERGED, BARE),
    rule("mellum2", &[EACH_NUMBER, GPT2], MERGED, BARE),
    rule("stablelm2", &[QWEN2], MERGED, BARE),
    rule("deepseek-r1-qwen", &[QWEN2], MERGED, BARE),
    rule("megrez", &[QWEN2], MERGED, BARE),
    rule("kormo", &[QWEN2], MERGED, BARE),
    rule("f2llmv2", &[QWEN2], MERGED, BARE),
    rule("hunyuan", &[QWEN2], MERGED, BARE),
    rule("solar-open", &[QWEN2], MERGED, BARE),
    rule("grok-2", &[QWEN2], MERGED, BARE),
    rule("bailingmoe", &[QWEN2], MERGED, BARE),
    rule("bailingmoe2", &[QWEN2], MERGED, BARE),
    rule("llada-moe", &[QWEN2], MERGED, BARE),
    rule("llama4", &[GPT4O], MERGED, BARE),
    rule("kanana2", &[GPT4O], MERGED, BARE),
    rule("talkie", &[GPT4O], MERGED, BARE),
    rule("minimax-m2", &[GPT4O], MERGED, BARE),
    rule("bloom", &[BLOOM], MERGED, BARE),
    rule("gpt3-finnish", &[BLOOM], MERGED, BARE),
    rule("hunyuan-dense", &[TRIPLES, HAN_AND_KANA, DEEPSEEK3], MERGED, BARE),
    rule("hy_v4", &[TRIPLES, HAN_AND_KANA, DEEPSEEK3], MERGED, BARE),
    rule("joyai-llm", &[TRIPLES, HAN_AND_KANA, DEEPSEEK3], MERGED, BARE),
];

/// What a name stands for.
pub(crate) fn find(name: &str) -> Option<&'static Rule> {
    RULES.iter().find(|rule| rule.name == name)
}

/// The letters with upper and lower case that DeepSeek's first vocabularies list one by one.
#[rustfmt::skip]
const CASED_LETTERS: &[(char, char)] = &[
    ('A', 'Z'), ('a', 'z'), ('\u{b5}', '\u{b5}'), ('\u{c0}', '\u{d6}'), ('\u{d8}', '\u{f6}'),
    ('\u{f8}', '\u{1ba}'), ('\u{1bc}', '\u{1bf}'), ('\u{1c4}', '\u{293}'), ('\u{295}', '\u{2af}'),
    ('\u{370}', '\u{373}'), ('\u{376}', '\u{376}'), ('\u{377}', '\u{377}'), ('\u{37b}', '\u{37d}'),
    ('\u{37f}', '\u{37f}'), ('\u{386}', '\u{386}'), ('\u{388}', '\u{38a}'), ('\u{38c}', '\u{38c}'),
    ('\u{38e}', '\u{3a1}'), ('\u{3a3}', '\u{3f5}'), ('\u{3f7}', '\u{481}'), ('\u{48a}', '\u{52f}'),
    ('\u{531}', '\u{556}'), ('\u{10a0}', '\u{10c5}'), ('\u{13a0}', '\u{13f5}'), ('\u{13f8}', '\u{13fd}'),
    ('\u{1c90}', '\u{1cba}'), ('\u{1cbd}', '\u{1cbf}'), ('\u{1d00}', '\u{1d2b}'), ('\u{1d6b}', '\u{1d77}'),
    ('\u{1d79}', '\u{1d9a}'), ('\u{1e00}', '\u{1f15}'), ('\u{1f18}', '\u{1f1d}'), ('\u{1f20}', '\u{1f45}'),
    ('\u{1f48}', '\u{1f4d}'), ('\u{1f50}', '\u{1f57}'), ('\u{1f59}', '\u{1f59}'), ('\u{1f5b}', '\u{1f5b}'),
    ('\u{1f5d}', '\u{1f5d}'), ('\u{1f5f}', '\u{1f7d}'), ('\u{1f80}', '\u{1fb4}'), ('\u{1fb6}', '\u{1fbc}'),
    ('\u{1fbe}', '\u{1fbe}'), ('\u{1fc2}', '\u{1fc4}'), ('\u{1fc6}', '\u{1fcc}'), ('\u{1fd0}', '\u{1fd3}'),
    ('\u{1fd6}', '\u{1fdb}'), ('\u{1fe0}', '\u{1fec}'), ('\u{1ff2}', '\u{1ff4}'), ('\u{1ff6}', '\u{1ffc}'),
    ('\u{2102}', '\u{2102}'), ('\u{2107}', '\u{2107}'), ('\u{210a}', '\u{2113}'), ('\u{2115}', '\u{2115}'),
    ('\u{2119}', '\u{211d}'), ('\u{2124}', '\u{2124}'), ('\u{2126}', '\u{2126}'), ('\u{2128}', '\u{2128}'),
    ('\u{212a}', '\u{212d}'), ('\u{212f}', '\u{2134}'), ('\u{2139}', '\u{2139}'), ('\u{213c}', '\u{213f}'),
    ('\u{2145}', '\u{2149}'), ('\u{214e}', '\u{214e}'), ('\u{2183}', '\u{2183}'), ('\u{2184}', '\u{2184}'),
    ('\u{2c00}', '\u{2c7b}'), ('\u{2c7e}', '\u{2ce4}'), ('\u{2ceb}', '\u{2cee}'), ('\u{2cf2}', '\u{2cf2}'),
    ('\u{2cf3}', '\u{2cf3}'), ('\u{a640}', '\u{a66d}'), ('\u{a680}', '\u{a69b}'), ('\u{a722}', '\u{a76f}'),
    ('\u{a771}', '\u{a787}'), ('\u{a78b}', '\u{a78e}'), ('\u{ab70}', '\u{abbf}'), ('\u{fb00}', '\u{fb06}'),
    ('\u{fb13}', '\u{fb17}'), ('\u{ff21}', '\u{ff3a}'), ('\u{ff41}', '\u{ff5a}'),
    ('\u{10400}', '\u{1044f}'), ('\u{104b0}', '\u{104d3}'), ('\u{104d8}', '\u{104fb}'),
    ('\u{10c80}', '\u{10cb2}'), ('\u{10cc0}', '\u{10cf2}'), ('\u{118a0}', '\u{118df}'),
    ('\u{1e900}', '\u{1e943}'),];

#[cfg(test)]
mod tests {
    use tokenizers::utils::SysRegex;

    use super::*;
    use crate::gguf::class::Classes;
    use crate::gguf::cut::{cut, regex};

    /// Texts of characters at which the rules part, in runs of one kind and mixed.
    fn texts() -> Vec<String> {
        let pool: Vec<char> = "abzABZ059 \t\r\n\u{a0}\u{3000}'stmdrvelSTMDRVEL_-/.,!$^`éßǅʰªΩж漢字あ한กि\u{301}٣½Ⅷ€“。،\u{0}\u{7f}👍"
            .chars()
            .collect();
        let mut state = 7u64;
        let mut next = |below: usize| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state % below as u64) as usize
        };
        let mut text = || {
            let mut text = String::new();
            for _ in 0..next(14) {
                let (character, times) = (pool[next(pool.len())], [1, 1, 1, 2, 5][next(5)]);
                text.extend(std::iter::repeat_n(character, times));
            }
            text
        };
        (0..2000).map(|_| text()).collect()
    }

    /// What a regular expression cuts a text into, the text between its matches included.
    fn cut_by(regex: &SysRegex, text: &str) -> Vec<String> {
        let (mut pieces, mut from) = (Vec::new(), 0);
        for (start, end) in regex.find_iter(text).chain([(text.len(), text.len())]) {
            let parts = [&text[from..start], &text[start..end]];
            pieces.extend(parts.iter().filter(|part| !part.is_empty()).map(|part| (*part).to_owned()));
            from = end;
        }
        pieces
    }

    #[test]
    fn every_pattern_cuts_as_its_regular_expression_does() {
        let (texts, classes) = (texts(), Classes::new());
        let mut seen: Vec<Pattern> = Vec::new();
        for pattern in RULES.iter().flat_map(|rule| rule.patterns) {
            if seen.contains(pattern) {
                continue;
            }
            seen.push(pattern);
            let expression = regex(pattern);
            let compiled = SysRegex::new(&expression).unwrap();
            for text in &texts {
                let ours: Vec<String> = cut(text, &[*pattern], &classes)
                    .into_iter()
                    .map(|range| text[range].to_owned())
                    .collect();
                assert_eq!(ours, cut_by(&compiled, text), "{text:?} by {expression}");
            }
        }
        assert!(seen.len() > 20, "{}", seen.len());
    }

    #[test]
    fn names_are_listed_once_and_ranges_in_order() {
        let mut names: Vec<&str> = RULES.iter().map(|rule| rule.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), RULES.len());
        for pair in CASED_LETTERS.windows(2) {
            assert!(pair[0].0 <= pair[0].1 && pair[0].1 < pair[1].0, "{pair:?}");
        }
    }
}
