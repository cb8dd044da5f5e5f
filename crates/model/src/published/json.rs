//! `config.json` of a published folder, both ways.

use serde_json::Value;

use super::{
    Family, Fields, Published,
    field::{Field, Rule, given, shown, size},
    layout::Layout,
    noted, of_family,
};
use crate::{Error, Result};

/// Fields of every family that change nothing here: of training, of other heads, of generation, of the file itself.
///
/// Token ids and generation settings are read where text is generated.
const INERT: &[&str] = &[
    // The file.
    "_attn_implementation _attn_implementation_autoset _commit_hash _flash_attn_2_enabled _model_name_or_path",
    "attn_implementation dtype finetuning_task is_llama_config model_type name_or_path tokenizer_class torch_dtype",
    "transformers.js_config transformers_version unsloth_fixed unsloth_version use_bfloat16 use_cache",
    // What a forward pass returns.
    "output_attentions output_hidden_states output_scores return_dict return_dict_in_generate tf_legacy_loss torchscript",
    // Tokens.
    "bos_token_id cls_token_id decoder_start_token_id eos_token_id mask_token_id pad_token_id prefix sep_token_id",
    "unk_token_id",
    // Generation.
    "bad_words_ids begin_suppress_tokens diversity_penalty do_sample early_stopping encoder_no_repeat_ngram_size",
    "exponential_decay_length_penalty forced_bos_token_id forced_eos_token_id length_penalty max_length max_new_tokens",
    "min_length no_repeat_ngram_size num_beam_groups num_beams num_return_sequences remove_invalid_values",
    "repetition_penalty suppress_tokens temperature top_k top_p typical_p",
    // Other heads and modes.
    "chunk_size_feed_forward cross_attention_hidden_size id2label is_decoder label2id num_labels problem_type",
    "task_specific_params tie_encoder_decoder",
];

/// Fields of every family that are refused unless they have one of these values.
const ONLY: &[(&str, &[&str])] = &[
    ("add_cross_attention", &["false"]),
    ("is_encoder_decoder", &["false"]),
    ("per_layer_config", &["null"]),
    ("pruned_heads", &["{}"]),
    ("quantization_config", &["null"]),
];

/// Reads a published `config.json`.
///
/// # Errors
/// Another kind of model, with those that are supported; a field of the wrong type or out of range; a field that changes
/// what is computed in a way that is not supported. Each names the field.
pub fn read(value: &Value) -> Result<Published> {
    let Some(fields) = value.as_object() else {
        return Err(Error::invalid("config.json", "an object", shown(value)));
    };
    of_family!(family(fields)?, L => read_as::<L>(fields))
}

/// The family that a file says it is of.
fn family(fields: &Fields) -> Result<Family> {
    for part in [
        "vision_config",
        "vision_tower",
        "audio_config",
        "image_token_index",
        "image_token_id",
        "text_config",
    ] {
        if given(fields, part).is_some() {
            let kind = given(fields, "model_type").map_or_else(|| part.to_owned(), shown);
            let found = format!("{kind}, a model of more than text, as it has {part}");
            return Err(Error::invalid("model_type", Family::listed(), found));
        }
    }
    let architectures = given(fields, "architectures").and_then(Value::as_array);
    let of_architecture = || {
        let names = architectures?.iter().filter_map(Value::as_str);
        names.filter_map(named_by_architecture).next()
    };
    match given(fields, "model_type") {
        Some(name) => {
            let family = name.as_str().and_then(Family::named);
            family.ok_or_else(|| Error::invalid("model_type", Family::listed(), shown(name)))
        }
        None => of_architecture().ok_or_else(|| {
            let found = architectures.and_then(|list| list.first()).map_or("nothing".to_owned(), |first| {
                format!("nothing, and the architecture {}", shown(first))
            });
            Error::invalid("model_type", Family::listed(), found)
        }),
    }
}

fn named_by_architecture(name: &str) -> Option<Family> {
    let of =
        |family: &&Family| of_family!(**family, L => L::WITH_HEAD.contains(&name) || L::WITHOUT_HEAD == name);
    Family::ALL.iter().find(of).copied()
}

fn read_as<L: Layout>(fields: &Fields) -> Result<Published> {
    let (mut numbers, mut notes) = (L::default(), Vec::new());
    for (name, value) in fields {
        match L::CONFIG.iter().find(|field| field.name == name) {
            Some(_) if value.is_null() => {}
            Some(Field { rule: Rule::Also(other), .. }) => {
                also::<L>(name, value, other, fields, &mut numbers)?;
            }
            Some(field) => field.rule.read(name, value, &mut numbers)?,
            None => shared(name, value, &mut notes)?,
        }
    }
    for field in L::CONFIG.iter().filter(|field| field.rule.is_size()) {
        let spellings =
            L::CONFIG.iter().filter(|f| matches!(f.rule, Rule::Also(other) if other == field.name));
        if !spellings.chain([field]).any(|spelling| given(fields, spelling.name).is_some()) {
            let assumed = field.rule.write(field.name, &numbers)?.unwrap_or_default();
            noted(&mut notes, || {
                format!("config.json: field {} is not there; {assumed} is assumed", field.name)
            });
        }
    }
    numbers.read_own(fields, &mut notes)?;
    heads_of::<L>(fields, &mut numbers)?;
    if numbers.model_name().is_empty() {
        L::NAME.clone_into(numbers.model_name());
    }
    let config = numbers.config();
    config.validate()?;
    Ok(Published { family: L::FAMILY, config, notes })
}

/// A second spelling: it counts if the first is not there, and must not contradict it.
fn also<L: Layout>(name: &str, value: &Value, first: &str, fields: &Fields, numbers: &mut L) -> Result<()> {
    match given(fields, first) {
        None => {
            let field =
                L::CONFIG.iter().find(|field| field.name == first).expect("tables name their own fields");
            field.rule.read(name, value, numbers)
        }
        Some(other) if other == value => Ok(()),
        Some(other) => {
            let expected = format!("{}, as {first} says", shown(other));
            Err(Error::invalid(name, expected, shown(value)))
        }
    }
}

/// A field that is in no table of the family.
fn shared(name: &str, value: &Value, notes: &mut Vec<String>) -> Result<()> {
    if name == "architectures"
        || value.is_null()
        || INERT.iter().any(|line| line.split(' ').any(|inert| inert == name))
    {
        return Ok(());
    }
    if let Some((_, only)) = ONLY.iter().find(|(known, _)| *known == name) {
        return Rule::<()>::Only(only).read(name, value, &mut ());
    }
    noted(notes, || format!("config.json: field {} is not known; ignored", shortened(name)));
    Ok(())
}

/// A name as a note shows it.
pub(crate) fn shortened(name: &str) -> String {
    name.chars().take(80).flat_map(char::escape_debug).collect()
}

/// Refuses a model with another head than the one for the next token.
fn heads_of<L: Layout>(fields: &Fields, numbers: &mut L) -> Result<()> {
    let Some(value) = given(fields, "architectures") else { return Ok(()) };
    let Some(names) = value.as_array() else {
        return Err(Error::invalid("architectures", "a list of names", shown(value)));
    };
    let is_known = |name: &Value| {
        // Without a head of its own in the file, only a tied one can be made.
        L::WITH_HEAD.iter().any(|known| name == known) || (name == L::WITHOUT_HEAD && *numbers.is_tied())
    };
    let mut names = names.iter();
    if names.len() == 0 || names.any(is_known) {
        return Ok(());
    }
    let found = value.get(0).map(shown).unwrap_or_default();
    Err(Error::invalid("architectures", format_args!("[\"{}\"]", L::WITH_HEAD[0]), found)
        .hint("of these models only those that predict the next token are supported"))
}

/// The `config.json` of a model.
pub(super) fn write<L: Layout>(numbers: &L) -> Result<Value> {
    let mut fields = Fields::new();
    fields.insert("model_type".to_owned(), L::NAME.into());
    fields.insert("architectures".to_owned(), [L::WITH_HEAD[0]].as_slice().into());
    for field in L::CONFIG {
        if let Some(value) = field.rule.write(field.name, numbers)? {
            fields.insert(field.name.to_owned(), value);
        }
    }
    numbers.write_own(&mut fields)?;
    Ok(Value::Object(fields))
}

/// A whole number from 1 of a field that the family reads by itself.
pub(crate) fn own_size(fields: &Fields, name: &str) -> Result<Option<usize>> {
    given(fields, name).map(|value| size(name, value, super::field::MAX_SIZE)).transpose()
}
