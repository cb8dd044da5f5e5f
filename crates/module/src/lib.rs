//! The waist of Formwork: modules, parameters, weights, passes, scopes, masks and caches
