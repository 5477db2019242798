//! The JSON Schemas that the project publishes, for the tests of documents.

use std::path::Path;

use jsonschema::Validator;
use serde_json::Value;

/// The schema of that file in docs/schema.
pub fn schema(name: &str) -> Validator {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/schema").join(name);
    let schema: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    jsonschema::meta::validate(&schema).unwrap();
    jsonschema::validator_for(&schema).unwrap()
}
