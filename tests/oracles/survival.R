# What R's survival package says about the cohorts of survival_cohorts.csv: Kaplan-Meier with log-log band, median, mean up
# to a horizon, log-rank. Run in this folder: Rscript survival.R > survival.json
suppressPackageStartupMessages(library(survival))

numbers <- function(x) paste0("[", paste(ifelse(is.na(x), "null", formatC(x, digits = 12, format = "g")), collapse = ", "), "]")
field <- function(name, x) paste0('"', name, '": ', numbers(x))

people <- read.csv("survival_cohorts.csv")
described <- sapply(unique(people$cohort), function(name) {
  own <- people[people$cohort == name, ]
  fit <- survfit(Surv(time, event) ~ 1, data = own, conf.type = "log-log")
  at <- fit$n.event > 0
  horizon <- own$horizon[1]
  mean_time <- summary(fit, rmean = horizon)$table
  middle <- quantile(fit, 0.5)
  paste0('  "', name, '": {', paste(
    field("times", fit$time[at]), field("survival", fit$surv[at]), field("lower", fit$lower[at]),
    field("upper", fit$upper[at]), field("at_risk", fit$n.risk[at]), field("events", fit$n.event[at]),
    field("median", c(middle$quantile, middle$lower, middle$upper)),
    field("mean_time", c(mean_time[["rmean"]], mean_time[["se(rmean)"]])), sep = ",\n    "), "}")
})
two <- people[people$cohort %in% c("6-MP", "control"), ]
rank <- survdiff(Surv(time, event) ~ cohort, data = two)
cat("{\n", paste(described, collapse = ",\n"), ",\n  \"log-rank\": {", field("chi_squared", rank$chisq), "}\n}\n", sep = "")
