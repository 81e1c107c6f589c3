"""The ways on which a message leaves this machine; each makes its own of the same dict (:mod:`holdfast.alerts.wording`)."""
