//! What holds of attention whatever the tiles: gradients of biases and sinks, masks, decoding, padding, layouts.

use super::*;

#[test]
fn the_gradient_of_a_bias_agrees_with_finite_differences() {
    let case = Case::<f64>::new([2, 2, 1, 3, 5, 2], everything).biased();
    let grads = case.backward(false, false);
    for (head, query, key) in [(0, 2, 0), (1, 4, 3), (0, 3, 4), (1, 2, 2)] {
        let at = (head * SPAN + query) * SPAN + key;
        let loss = |step: f64| {
            let mut c = case.clone();
            Arc::make_mut(c.bias.as_mut().unwrap()).0[at] += step;
            c.forward(false)[0].iter().zip(&c.dout).map(|(a, b)| a * b).sum::<f64>()
        };
        let slope = (loss(1e-6) - loss(-1e-6)) / 2e-6;
        assert!((slope - grads[3][at]).abs() < 1e-8, "head {head}, query {query}, key {key}");
    }
}

#[test]
fn a_masked_future_does_not_change_the_past() {
    let mut case = Case::<f32>::new([1, 2, 1, 37, 37, 7], causal);
    let before = case.forward(false)[0].clone();
    let last = (36 * 7)..(37 * 7);
    case.k[last.clone()].fill(9.0); // one key head, so token 36 is the last row in either layout
    case.v[last].fill(-9.0);
    let after = case.forward(false)[0].clone();
    assert_eq!(before[..36 * 14], after[..36 * 14]);
    assert_ne!(before[36 * 14..], after[36 * 14..]);
}

#[test]
fn decoding_one_query_at_a_time_equals_all_at_once() {
    let all = Case::<f64>::new([1, 4, 2, 40, 40, 8], causal);
    let [out, _] = all.forward(false);
    for t in 0..40 {
        let mut one = all.clone();
        one.shape.queries = 1;
        one.rows = vec![Row { q: 0..1, k: 0..t + 1, first: t }];
        let width = 4 * 8;
        one.q = all.q[t * width..(t + 1) * width].to_vec();
        close("token", &one.forward(false)[0], &out[t * width..(t + 1) * width], F64);
    }
}

#[test]
fn a_token_may_be_repeated_by_a_stride_of_zero() {
    for queries in [1, 5] {
        let repeated = Case::<f64>::new([1, 4, 2, queries, 11, 35], everything);
        let width = 2 * 35; // of a token's values
        let mut whole = repeated.clone();
        for token in whole.v.chunks_exact_mut(width) {
            token.copy_from_slice(&repeated.v[..width]);
        }
        let once = View::new(&repeated.v[..width], Strides { batch: 0, head: 35, token: 0 });
        let mut out = junk(repeated.q.len());
        let inputs = Inputs { v: once.into(), ..repeated.inputs() };
        attention(&inputs, &mut ViewMut::new(&mut out, repeated.queries()), &mut junk(4 * queries));
        close("out", &out, &whole.forward(true)[0], F64);
    }
}

#[test]
fn junk_in_padding_is_never_read() {
    let mut case = Case::<f32>::new([1, 2, 1, 5, 41, 3], causal).rows(&[(0..5, 3..38, 30)]);
    let (out, grads) = (case.forward(false), case.backward(false, false));
    for key in [0, 1, 2, 38, 39, 40] {
        case.k[key * 3..][..3].fill(f32::NAN);
        case.v[key * 3..][..3].fill(f32::NAN);
    }
    assert_eq!(case.forward(false), out);
    assert_eq!(case.backward(false, false), grads);
}

#[test]
fn a_fused_buffer_gives_what_separate_ones_give() {
    let (b, h, g, t, e) = (2, 4, 2, 5, 3);
    let shape = Shape { batch: b, heads: h, kv_heads: g, queries: t, keys: t, head_dim: e };
    let n = b * t * (h + 2 * g) * e;
    let (data, dout) = (numbers::<f64>(1, n), numbers::<f64>(2, b * t * h * e));
    let [q, k, v] = View::fused(&data, &shape);
    let rows = vec![Row::whole(t, t); b];
    let fused = Inputs { scale: 0.5, ..Inputs::new(shape, [q, k, v], &rows, &Causal) };
    let strides = Strides::tokens_first(t, h, e);
    let (mut out, mut lse) = (junk(dout.len()), junk(b * h * t));
    attention(&fused, &mut ViewMut::new(&mut out, strides), &mut lse);
    let adjoint = Adjoint { out: View::new(&out, strides), lse: &lse, dout: View::new(&dout, strides) };
    let mut grad = junk(n);
    let [dq, dk, dv] = ViewMut::fused(&mut grad, &shape);
    attention_adjoint(&fused, &adjoint, &mut Gradients { dq, dk, dv, dsinks: None, write: Write::Store });
    check_gradient("fused", &data, &grad, |data| {
        let [q, k, v] = View::fused(data, &shape);
        let mut out = junk(dout.len());
        attention(
            &Inputs { q, k: k.into(), v: v.into(), ..fused },
            &mut ViewMut::new(&mut out, strides),
            &mut lse.clone(),
        );
        out.iter().zip(&dout).map(|(a, b)| a * b).sum()
    });
}

#[test]
fn an_infinite_score_spoils_its_own_query_only() {
    let mut case = Case::<f32>::new([1, 1, 1, 5, 5, 2], everything);
    case.q[4] = f32::INFINITY;
    let [out, _] = case.forward(false);
    assert!(out[4..6].iter().all(|v| v.is_nan()));
    assert!(out[..4].iter().chain(&out[6..]).all(|v| v.is_finite()));
}

#[test]
#[should_panic(expected = "5 heads are no multiple of 2 key heads")]
fn heads_that_do_not_divide_are_refused() {
    Case::<f32>::new([1, 5, 2, 1, 1, 1], causal).forward(false);
}

#[test]
fn the_gradient_of_a_sink_agrees_with_finite_differences() {
    let case = Case::<f64>::new([2, 4, 2, 5, 7, 3], causal).sunk().capped().dropped(0.3);
    let grads = case.backward(false, false);
    check_gradient("dsinks", case.sinks.as_ref().unwrap(), &grads[4], |sinks| {
        let mut c = case.clone();
        c.sinks = Some(sinks.to_vec());
        c.forward(false)[0].iter().zip(&c.dout).map(|(a, b)| a * b).sum()
    });
}

#[test]
fn a_sink_takes_its_part_of_the_probability() {
    // One key whose score is 0 and a sink of ln 3: the key has a quarter.
    for queries in [1, 40] {
        let mut case =
            Case::<f64>::new([1, 1, 1, queries, 1, 1], everything).rows(&[(0..queries, 0..1, 0)]).sunk();
        (case.k, case.v, case.sinks) = (vec![0.0], vec![8.0], Some(vec![3.0_f64.ln()]));
        let [out, lse] = case.forward(false);
        close("out", &out, &vec![2.0; queries], F64);
        close("lse", &lse, &vec![4.0_f64.ln(); queries], F64);
    }
}

#[test]
fn a_soft_cap_bounds_what_a_score_can_do() {
    let mut case = Case::<f64>::new([1, 1, 1, 1, 2, 1], everything).capped();
    (case.q, case.k, case.v) = (vec![1e6], vec![0.0, 1.0], vec![0.0, 1.0]);
    let [out, _] = case.forward(false);
    close("out", &out, &[1.0 / (1.0 + (-1.5_f64).exp())], F64);
}

#[test]
fn a_query_has_the_same_bits_in_any_company() {
    // Alone among padding or with others, before what a causal rule hides or without it.
    let all = Case::<f32>::new([1, 2, 1, 101, 101, 7], causal);
    let [out, _] = all.forward(false);
    let first = all.clone().rows(&[(0..70, 0..70, 0)]);
    assert_eq!(first.forward(false)[0][..70 * 14], out[..70 * 14]);
}

#[test]
fn room_that_a_cache_has_left_changes_no_bit() {
    let all = Case::<f32>::new([1, 4, 2, 1, 1000, 16], causal).rows(&[(0..1, 0..300, 299)]);
    let mut short = all.clone();
    short.shape.keys = 300;
    short.k = (0..2).flat_map(|head| all.k[head * 16000..][..300 * 16].to_vec()).collect();
    short.v = all.v[..300 * 32].to_vec();
    assert_eq!(all.forward(false), short.forward(false));
}

#[test]
fn a_decoded_row_has_the_same_bits_beside_a_much_longer_one() {
    let both = Case::<f32>::new([2, 1, 1, 1, 20_000, 4], causal)
        .rows(&[(0..1, 0..300, 299), (0..1, 0..20_000, 19_999)]);
    let mut alone = both.clone();
    alone.shape.batch = 1;
    alone.rows.truncate(1);
    alone.q.truncate(4);
    alone.k.truncate(20_000 * 4);
    alone.v.truncate(20_000 * 4);
    assert_eq!(both.forward(false)[0][..4], alone.forward(false)[0][..]);
}
