"""What is changed on the way: steps over the header of a data set (`base` says what they are to the rest).

Guarantees: pixel data are never decoded here, and every element that no step names stays byte for byte as it is, but
group lengths and the lengths of enclosing items (promise 3). Failures: `base.Refused`, with the reason for a person.
"""
