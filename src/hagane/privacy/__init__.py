"""Privacy: what is personal in a text, found by form and check digit; the table of detectors."""

DETECTORS = {
    "my_number": "hagane.privacy.detect:MyNumber",
    "company_number": "hagane.privacy.detect:CompanyNumber",
    "card": "hagane.privacy.detect:Card",
    "email": "hagane.privacy.detect:Email",
    "phone": "hagane.privacy.phone:Phone",
}
