//! The words of the domain: labels, matchers, time ranges, histograms, warnings, kinds of errors.
