//! The names of tensors in published layouts, against the reference's own models.

use std::collections::{BTreeMap, BTreeSet};

use formwork_checkpoint::names::{Names, Order};
use formwork_model::{
    Builder, ModelConfig, Outline,
    position::Pairs,
    presets,
    published::{Family, with_pairs},
};

use crate::published_config::{cases, read};

/// Shapes of their tensors, from the shapes of ours and the table. Every parameter must have exactly one row.
fn shapes(config: &ModelConfig, names: &Names) -> BTreeMap<String, Vec<usize>> {
    let outline = Outline::of(&Builder::new(config.clone())).unwrap();
    let mut ours: BTreeMap<_, _> = outline.lines.iter().map(|line| (line.name.clone(), line.shape)).collect();
    let mut theirs: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for piece in names.pieces() {
        let shape =
            ours.remove(&piece.ours).unwrap_or_else(|| panic!("{} is none of ours, or twice", piece.ours));
        if let Some(heads) = piece.heads {
            assert!(shape[0].is_multiple_of(2 * heads), "{}: pairs of {heads} heads in {shape}", piece.ours);
        }
        let mut shape = shape.to_vec();
        if piece.order == Order::Transposed {
            shape.reverse();
        }
        let out = if piece.order == Order::Transposed { 1 } else { 0 };
        match theirs.get_mut(&piece.theirs) {
            Some(stacked) => stacked[out] += shape[out],
            None => drop(theirs.insert(piece.theirs.clone(), shape)),
        }
    }
    assert!(ours.is_empty(), "without a row: {ours:?}");
    theirs
}

#[test]
fn a_folder_has_the_names_and_shapes_of_the_reference() {
    let mut checked = 0;
    for (name, case) in cases() {
        let Some(mut tensors) = case.tensors else { continue };
        let found = read(&case.given);
        let names = found.family.names(&found.config).unwrap();
        if found.config.head == (formwork_model::HeadConfig::Tied {}) {
            tensors.remove("lm_head.weight").expect("the reference lists a tied head");
        }
        let found = shapes(&found.config, &names);
        assert_eq!(found, tensors, "{name}");
        checked += 1;
    }
    assert!(checked > 10);
}

#[test]
fn rows_of_heads_are_permuted_only_between_layouts_of_pairs() {
    let halves = presets::llama3_8b();
    let interleaved = with_pairs(&halves, Pairs::Interleaved);
    let heads = |names: Names| {
        let heads = names.pieces().iter().filter_map(|piece| Some((piece.ours.clone(), piece.heads?)));
        heads.collect::<BTreeMap<_, _>>()
    };
    assert!(heads(Family::Llama.names(&halves).unwrap()).is_empty());
    assert!(heads(Family::Llama.gguf_names(&interleaved).unwrap()).is_empty());
    let permuted = heads(Family::Llama.gguf_names(&halves).unwrap());
    assert_eq!(
        (permuted.len(), permuted["blocks.3.attn.q.weight"], permuted["blocks.31.attn.k.weight"]),
        (64, 32, 8)
    );
    let error = Family::Llama.names(&interleaved).unwrap_err().to_string();
    assert!(error.starts_with("attn.position.pairs: expected halves, as a folder has them"), "{error}");
}

#[test]
fn a_gguf_file_has_llama_cpps_names() {
    let check =
        |config: &ModelConfig, family: Family, layer: &[(&str, &[usize])], rest: &[(&str, &[usize])]| {
            let found = shapes(config, &family.gguf_names(config).unwrap());
            let layers = config.blocks.len();
            let layer = (0..layers).flat_map(|i| {
                layer.iter().map(move |(name, shape)| (format!("blk.{i}.{name}"), shape.to_vec()))
            });
            let rest = rest.iter().map(|(name, shape)| ((*name).to_owned(), shape.to_vec()));
            assert_eq!(found, layer.chain(rest).collect::<BTreeMap<_, _>>());
        };
    check(
        &presets::smollm2_135m(),
        Family::Llama,
        &[
            ("attn_norm.weight", &[576]),
            ("attn_q.weight", &[576, 576]),
            ("attn_k.weight", &[192, 576]),
            ("attn_v.weight", &[192, 576]),
            ("attn_output.weight", &[576, 576]),
            ("ffn_norm.weight", &[576]),
            ("ffn_gate.weight", &[1536, 576]),
            ("ffn_up.weight", &[1536, 576]),
            ("ffn_down.weight", &[576, 1536]),
        ],
        &[("token_embd.weight", &[49152, 576]), ("output_norm.weight", &[576])],
    );
    check(
        &presets::gpt2_small(),
        Family::Gpt2,
        &[
            ("attn_norm.weight", &[768]),
            ("attn_norm.bias", &[768]),
            ("attn_qkv.weight", &[2304, 768]),
            ("attn_qkv.bias", &[2304]),
            ("attn_output.weight", &[768, 768]),
            ("attn_output.bias", &[768]),
            ("ffn_norm.weight", &[768]),
            ("ffn_norm.bias", &[768]),
            ("ffn_up.weight", &[3072, 768]),
            ("ffn_up.bias", &[3072]),
            ("ffn_down.weight", &[768, 3072]),
            ("ffn_down.bias", &[768]),
        ],
        &[
            ("token_embd.weight", &[50257, 768]),
            ("position_embd.weight", &[1024, 768]),
            ("output_norm.weight", &[768]),
            ("output_norm.bias", &[768]),
        ],
    );
    let untied = Family::Llama.gguf_names(&presets::llama2_7b()).unwrap();
    assert!(
        untied.pieces().iter().any(|piece| piece.ours == "head.weight" && piece.theirs == "output.weight")
    );
}

#[test]
fn buffers_that_hold_nothing_are_inert_in_every_spelling() {
    let check = |names: Names, inert: &[&str], not: &[&str]| {
        inert.iter().for_each(|name| assert!(names.is_inert(name), "{name}"));
        not.iter().for_each(|name| assert!(!names.is_inert(name), "{name}"));
        let theirs: BTreeSet<_> = names.pieces().iter().map(|piece| piece.theirs.as_str()).collect();
        theirs.iter().for_each(|name| assert!(!names.is_inert(name), "{name} holds numbers"));
    };
    check(
        Family::Gpt2.names(&presets::gpt2_small()).unwrap(),
        &["transformer.h.0.attn.bias", "h.11.attn.bias", "h.3.attn.masked_bias"],
        &["h.0.attn.c_attn.bias", "h.0.mlp.c_fc.bias"],
    );
    check(
        Family::Llama.names(&presets::llama2_7b()).unwrap(),
        &["model.layers.0.self_attn.rotary_emb.inv_freq", "model.rotary_emb.inv_freq"],
        &["model.layers.0.self_attn.q_proj.weight"],
    );
    check(
        Family::Llama.gguf_names(&presets::llama3_8b()).unwrap(),
        &["rope_freqs.weight", "blk.0.rope_freqs.weight"],
        &["blk.0.attn_q.weight"],
    );
}
