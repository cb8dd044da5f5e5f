//! Text generation: logit processors, sampling, streaming, batches
