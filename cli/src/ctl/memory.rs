//! Where guest memory lies, drawn: a bar for each GiB of it.

use ::memory::bytes::Bytes;
use serde_json::Value;

use super::client::Answer;
use super::show::{json, table, word};

/// Characters of a bar.
const WIDTH: u64 = 32;
/// What a bar is made of, in this order, and the field that says how much.
const KINDS: [(char, &str, &str); 5] = [
    ('#', "normal", "normal memory"),
    ('C', "cma", "CMA"),
    ('M', "movable", "ZONE_MOVABLE"),
    ('?', "unknown", "not to be seen"),
    ('.', "absent", "not allocated"),
];

/// The bars, what they are made of, and the sum of each.
pub(super) fn bars(answer: &Answer) -> String {
    let body = json(answer);
    let pieces: Vec<&Value> = body.get("pieces").and_then(Value::as_array).into_iter().flatten().collect();
    let mut rows = vec![["GUEST ADDRESS", "", "ALLOCATED", "HUGE", "NODE"].map(str::to_owned).to_vec()];
    rows.extend(pieces.iter().map(|piece| row(piece)));
    let sum = |field: &str| pieces.iter().map(|piece| bytes(piece, field)).fold(0, u64::saturating_add);
    let legend = KINDS.iter().map(|(mark, field, name)| format!("{mark} {name}: {:.1}", Bytes(sum(field))));
    let mut text = table(&rows) + "\n" + &legend.collect::<Vec<_>>().join("   ") + "\n";
    if let Some(why) = body.get("unknown").and_then(Value::as_str) {
        text += &format!("not all can be seen: {why}\n");
    }
    text
}

/// `0x100000000  [#########.......]  512 MiB  87 %  0`
fn row(piece: &Value) -> Vec<String> {
    let (size, absent) = (bytes(piece, "bytes"), bytes(piece, "absent"));
    let there = size.saturating_sub(absent);
    let percent = bytes(piece, "huge").saturating_mul(100).checked_div(there);
    let nodes = piece.get("nodes").and_then(Value::as_array);
    let nodes: Vec<String> = nodes.into_iter().flatten().map(|node| word(node, "node")).collect();
    vec![
        format!("{:#x}", bytes(piece, "start")),
        bar(piece, size),
        format!("{:.1}", Bytes(there)),
        percent.map(|percent| format!("{percent} %")).unwrap_or_default(),
        nodes.join(","),
    ]
}

/// Each kind has its share of the width; one that is there at all is seen.
fn bar(piece: &Value, size: u64) -> String {
    let mut widths = KINDS.map(|(_, field, _)| {
        let part = bytes(piece, field);
        if part == 0 {
            0
        } else {
            (u128::from(part) * u128::from(WIDTH) / u128::from(size.max(1))).clamp(1, WIDTH.into()) as u64
        }
    });
    // The widest gives or takes what rounding has left over.
    let sum: u64 = widths.iter().sum();
    if let Some(widest) = widths.iter_mut().max() {
        *widest = (*widest + WIDTH).saturating_sub(sum);
    }
    let parts = KINDS.iter().zip(widths).map(|((mark, ..), width)| mark.to_string().repeat(width as usize));
    format!("[{}]", parts.collect::<String>())
}

fn bytes(piece: &Value, field: &str) -> u64 {
    piece.get(field).and_then(Value::as_u64).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const GIB: u64 = 1 << 30;

    fn piece(start: u64, normal: u64, cma: u64) -> Value {
        json!({
            "start": start, "bytes": GIB, "normal": normal, "cma": cma, "movable": 0, "unknown": 0,
            "absent": GIB - normal - cma, "huge": normal / 2, "nodes": [{ "node": 0, "bytes": normal }, { "node": 1, "bytes": cma }],
        })
    }

    fn drawn(body: &Value) -> String {
        bars(&Answer { body: body.to_string().into_bytes() })
    }

    #[test]
    fn a_bar_for_each_gib() {
        let body = json!({ "pieces": [piece(0, GIB, 0), piece(4 * GIB, GIB / 2, 4096)], "unknown": null });
        assert_eq!(
            drawn(&body),
            "GUEST ADDRESS                                      ALLOCATED  HUGE  NODE\n\
             0x0            [################################]  1 GiB      50 %  0,1\n\
             0x100000000    [################C...............]  512.0 MiB  49 %  0,1\n\
             \n\
             # normal memory: 1536 MiB   C CMA: 4 KiB   M ZONE_MOVABLE: 0 bytes   ? not to be seen: 0 bytes   . not allocated: 512.0 MiB\n"
        );
    }

    #[test]
    fn what_cannot_be_seen_is_explained() {
        let body = json!({ "pieces": [], "unknown": "debugfs: no" });
        assert!(drawn(&body).ends_with("\nnot all can be seen: debugfs: no\n"));
    }

    #[test]
    fn bars_are_as_wide_as_they_are_whatever_is_in_them() {
        for (normal, cma) in [(0, 0), (1, 1), (GIB - 1, 1), (GIB / 3, GIB / 3), (GIB / 64, GIB / 64)] {
            assert_eq!(
                bar(&piece(0, normal, cma), GIB).chars().count(),
                WIDTH as usize + 2,
                "{normal} {cma}"
            );
        }
        for body in [
            json!(null),
            json!({ "pieces": 3 }),
            json!({ "pieces": [null, 1, { "bytes": -1, "cma": u64::MAX, "movable": u64::MAX, "nodes": 2 }] }),
        ] {
            drawn(&body);
        }
    }
}
