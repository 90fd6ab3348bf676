# Makes repeated_measures.json and imputation.json from the cohorts in cohorts.json:
#   Rscript repeated_measures.R <folder>          two minutes
#   Rscript repeated_measures.R <folder> quick    ten seconds: without mice and the larger unstructured models
# The records were made with R 4.2.2, lme4 1.1-31, lmerTest 3.1-3, nlme 3.1-162, mice 3.15.0.
suppressMessages({library(lme4); library(lmerTest); library(nlme); library(mice); library(jsonlite)})
folder <- commandArgs(TRUE)[1]
is_quick <- "quick" %in% commandArgs(TRUE)
read <- function(name) fromJSON(file.path(folder, name))
write <- function(x, name) write_json(x, file.path(folder, name), digits = 10, auto_unbox = TRUE, pretty = TRUE)

long <- function(scores) {
  at <- which(!is.na(scores), arr.ind = TRUE)
  rows <- data.frame(id = at[, 1], place = at[, 2], y = scores[at])
  rows <- rows[order(rows$id, rows$place), ]
  rows$visit <- factor(rows$place)
  rows
}

intercept <- function(rows) {
  m <- lmer(y ~ visit + (1 | id), rows, REML = TRUE)
  s <- coef(summary(m))
  list(coefficients = unname(s[, 1]), se = unname(s[, 2]), loglik = as.numeric(logLik(m)),
       between = as.numeric(VarCorr(m)$id), within = sigma(m)^2)
}

unstructured <- function(rows) {
  m <- gls(y ~ visit, rows, correlation = corSymm(form = ~ place | id), weights = varIdent(form = ~ 1 | visit),
           method = "REML", control = glsControl(maxIter = 500, msMaxIter = 500, opt = "optim"))
  list(coefficients = unname(coef(m)), se = unname(sqrt(diag(vcov(m)))), loglik = as.numeric(logLik(m)))
}

cohorts <- read("cohorts.json")
repeated <- lapply(cohorts, function(one) {
  rows <- long(one)
  found <- list(intercept = intercept(rows))
  if (nrow(one) >= 100 && !(is_quick && nrow(one) > 100)) found$unstructured <- unstructured(rows)
  found
})
write(repeated, "repeated_measures.json")

# Pooled mean change at the third visit, by chained Bayesian normal regression on all visits.
imputed <- lapply(cohorts[sapply(cohorts, nrow) >= 50 & !is_quick], function(one) {
  data <- as.data.frame(one)
  filled <- mice(data, m = 400, maxit = 10, method = "norm", seed = 1, printFlag = FALSE)
  each <- sapply(seq_len(400), function(i) { d <- complete(filled, i); d[[3]] - d[[1]] })
  found <- pool.scalar(colMeans(each), apply(each, 2, var) / nrow(one), n = nrow(one), k = 1)
  list(estimate = found$qbar, total = found$t)
})
known <- pool.scalar(c(-2.1, -1.8, -2.4, -2.0, -2.2), c(.20, .22, .18, .21, .19), n = 40, k = 1)
write(list(pool_scalar = known[c("qbar", "ubar", "b", "t", "df", "r", "fmi")], cohorts = imputed), "imputation.json")
