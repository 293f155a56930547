//! Where guest memory lies, as JSON: bytes, a piece for each GiB of the guest.

use ::memory::PAGE_SIZE;
use ::memory::residency::{Placement, Placements};
use serde_json::{Value, json};

/// docs/api/ has the schema.
pub(super) fn json_of(placements: &Placements) -> Value {
    let pieces: Vec<Value> = placements.pieces.iter().map(piece).collect();
    json!({ "pieces": pieces, "unknown": placements.unknown })
}

fn piece(piece: &Placement) -> Value {
    let bytes = |pages: u64| pages.saturating_mul(PAGE_SIZE);
    let node = |(node, pages): &(u32, u64)| json!({ "node": node, "bytes": bytes(*pages) });
    json!({
        "start": piece.guest.start,
        "bytes": piece.guest.size,
        "normal": bytes(piece.normal),
        "cma": bytes(piece.cma),
        "movable": bytes(piece.movable),
        "unknown": bytes(piece.hidden),
        "absent": bytes(piece.absent),
        "huge": bytes(piece.huge),
        "nodes": piece.nodes.iter().map(node).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use ::memory::GuestRange;

    use super::*;

    #[test]
    fn everything_is_in_bytes() {
        let placement = Placement {
            guest: GuestRange::new(1 << 32, 1 << 30),
            normal: 1,
            cma: 2,
            movable: 3,
            hidden: 4,
            absent: 5,
            huge: 512,
            nodes: vec![(1, 6)],
        };
        let placements = Placements { pieces: vec![placement], unknown: Some("why".to_owned()) };
        let expected = json!({
            "pieces": [{
                "start": 1_u64 << 32, "bytes": 1 << 30, "normal": 4096, "cma": 8192, "movable": 12288, "unknown": 16384,
                "absent": 20480, "huge": 2 << 20, "nodes": [{ "node": 1, "bytes": 24576 }],
            }],
            "unknown": "why",
        });
        assert_eq!(json_of(&placements), expected);
    }
}
