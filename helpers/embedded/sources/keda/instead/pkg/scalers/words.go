package scalers

// Words that the kept scalers share with those that are left out.
const (
	externalMetricType = "External"

	stringEnable  = "enable"
	stringDisable = "disable"
)
