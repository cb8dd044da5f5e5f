//! Every preset: exact counts, the outline of every parameter, and a config that survives being written.
//!
//! `UPDATE_GOLDENS=1 cargo test -p formwork-model` writes `tests/golden/outlines` anew.

use std::{collections::BTreeMap, fs, path::Path};

use formwork_model::{Builder, Description, ModelConfig, Outline, module::CacheType, presets};

#[test]
fn every_preset_has_exactly_the_parameters_of_the_published_model() {
    let counts: BTreeMap<String, u64> = serde_json::from_str(include_str!("../golden/counts.json")).unwrap();
    let found = presets::ALL.iter().map(|preset| {
        let outline = Outline::of(&Builder::new((preset.config)())).unwrap();
        (preset.name.to_owned(), outline.parameters())
    });
    assert_eq!(found.collect::<BTreeMap<_, _>>(), counts);
}

/// The smallest preset of each family line by line, the others with their layers collapsed.
#[test]
fn outlines_are_those_on_record() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/outlines");
    let mut seen = Vec::new();
    for preset in presets::ALL {
        let outline = Outline::of(&Builder::new((preset.config)())).unwrap();
        let first_of_family = !seen.contains(&preset.family);
        seen.push(preset.family);
        let text = if first_of_family { outline.to_string() } else { outline.collapsed() };
        let path = folder.join(format!("{}.txt", preset.name)); // a name may have a point
        if std::env::var_os("UPDATE_GOLDENS").is_some() {
            fs::create_dir_all(&folder).unwrap();
            fs::write(&path, &text).unwrap();
        }
        let recorded = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let differs = text.lines().zip(recorded.lines()).find(|(found, recorded)| found != recorded);
        assert!(text == recorded, "{}: first difference: {differs:?}", preset.name);
    }
}

#[test]
fn a_preset_is_found_by_the_name_in_its_config_and_no_two_share_one() {
    for preset in presets::ALL {
        assert_eq!((preset.config)().name, preset.name);
        assert_eq!((presets::find(preset.name).unwrap().config)(), (preset.config)());
        assert!(preset.name.starts_with(preset.family));
    }
    let error = presets::find("gpt2-smal").unwrap_err().to_string();
    assert!(error.starts_with("preset: expected one of gpt2-small, gpt2-medium"), "{error}");
    assert!(error.ends_with("found `gpt2-smal`; did you mean `gpt2-small`?"), "{error}");
}

#[test]
fn a_preset_is_the_same_after_json_and_toml() {
    for preset in presets::ALL {
        let config = (preset.config)();
        assert_eq!(ModelConfig::from_json(&config.to_json()).unwrap(), config, "{}", preset.name);
        assert_eq!(ModelConfig::from_toml(&config.to_toml().unwrap()).unwrap(), config, "{}", preset.name);
        assert!(config.to_json().len() < 2000, "{}: layers that are alike are written once", preset.name);
    }
}

#[test]
fn descriptions_have_the_published_numbers() {
    let of = |name: &str| Description::of(&Builder::new((presets::find(name).unwrap().config)())).unwrap();
    let kv = |name: &str, bytes: u64| assert_eq!(of(name).kv_bytes_per_token, bytes, "{name}");
    kv("gpt2-small", 36_864);
    kv("llama1-7b", 524_288);
    kv("llama2-70b", 327_680);
    kv("llama3-8b", 131_072);
    for preset in presets::ALL {
        let found = of(preset.name);
        let parts: u64 = found.parameters_by_part.iter().map(|part| part.parameters).sum();
        assert_eq!(parts, found.parameters, "{}", preset.name);
        assert_eq!(found.weight_bytes, 4 * parts);
        let cache = |kind| found.kv_bytes_by_type.iter().find(|of| of.cache == kind).unwrap().bytes_per_token;
        assert_eq!(cache(CacheType::F32), 2 * found.kv_bytes_per_token);
        assert_eq!(cache(CacheType::Bf16), found.kv_bytes_per_token);
        // Every published head is whole blocks wide: 34 bytes for 32 numbers.
        assert_eq!(cache(CacheType::Q8_0), found.kv_bytes_per_token * 34 / 64, "{}", preset.name);
        // Two operations per parameter, except that an untied table is only looked up; attention comes on top.
        let config = (preset.config)();
        let scores = config
            .blocks
            .iter()
            .filter_map(|block| block.multi_head())
            .map(|attn| 2 * (attn.heads * attn.head_dim(config.dim) * (config.context + 1)) as u64);
        let per_parameter = (found.flops_per_token - scores.sum::<u64>()) as f64 / found.parameters as f64;
        assert!((1.8..=2.0).contains(&per_parameter), "{}: {per_parameter}", preset.name);
        assert!(found.training_bytes > 16 * found.parameters, "{}", preset.name);
    }
    let parts = of("llama3-8b").parameters_by_part;
    let parts: Vec<_> = parts.iter().map(|part| (part.name.as_str(), part.parameters)).collect();
    assert_eq!(
        parts,
        [
            ("embed.tokens", 128_256 * 4096),
            ("blocks.*.attn_norm", 32 * 4096),
            ("blocks.*.attn", 32 * 4096 * (2 * 4096 + 2 * 1024)),
            ("blocks.*.ffn_norm", 32 * 4096),
            ("blocks.*.ffn", 32 * 3 * 4096 * 14_336),
            ("norm", 4096),
            ("head", 128_256 * 4096),
        ]
    );
}
